"""Settings of the lab core."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class CoreListen:
    """One socket of the core. Port 0 takes a free one."""

    transport: Literal["udp", "tcp"] = "udp"
    host: str = "127.0.0.1"
    port: int = 5070


@dataclass(frozen=True)
class CoreSettings:
    """``users`` maps user parts to passwords; with ``authenticate`` off anybody may register under any name.

    ``algorithms`` are offered as digest challenges in that order. ``expires`` bounds what a registration may ask for,
    in seconds. ``reg_event``: registration state is told to subscribers (RFC 3680). ``psap`` is the
    user who takes emergency calls; empty: nobody does. ``admin`` is the path of
    a socket over which ``imslab deregister`` reaches the core; empty: there is none.
    """

    domain: str = "lab.example"
    users: dict[str, str] = field(default_factory=lambda: {"alice": "alice-secret", "bob": "bob-secret"})
    authenticate: bool = True
    algorithms: tuple[Literal["MD5", "SHA-256"], ...] = ("SHA-256", "MD5")
    expires: int = 3600
    reg_event: bool = True
    psap: str = ""
    admin: str = ""
    listen: tuple[CoreListen, ...] = (CoreListen("udp"), CoreListen("tcp"))
