"""``[overload]``: how much one source may ask, and what happens when more comes than can be served."""

from dataclasses import dataclass
from typing import Literal

from imskit.settings import Positive, Seconds


@dataclass(frozen=True)
class OverloadSettings:
    """``[overload]``: all of it is on by default.

    ``source_rate`` is how many SIP requests per second one source address on the access side may send, ``source_burst``
    how many at once; 0 is without limit, and a /64 of IPv6 is one source. New work is refused beyond that, what belongs
    to work that has begun beyond twice the burst. ``sources`` bounds the table of addresses. ``answer`` is what a
    refused request gets: ``503`` with Retry-After, or ``silence``. New work from both sides is refused while the event
    loop is late by ``lag`` seconds every time for a second (0: never) or while more than ``queue`` octets wait at a UDP
    socket as the kernel counts them, about twice the length of the datagrams (0: never). Emergency calls and
    registrations are never refused for overload.
    """

    source_rate: float = 500.0
    source_burst: Positive = 1_000
    sources: Positive = 50_000
    answer: Literal["503", "silence"] = "503"
    lag: Seconds = 0.3
    queue: int = 1_048_576

    def __post_init__(self) -> None:
        if self.source_rate < 0:
            raise ValueError("'source_rate' is negative; 0 is without limit")
        if self.queue < 0:
            raise ValueError("'queue' is negative; 0 is never")
