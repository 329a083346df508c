"""What the SIP half counts."""

OUTCOMES = ("completed", "released", "refused", "cancelled", "failed", "no-answer")
"""How calls end: by a BYE of an end; given up here; refused here; by CANCEL; by a failure response; without any."""


class Stats:
    """Counters since the start; the shell shows them as metrics."""

    __slots__ = (
        "bad_messages",
        "bugs",
        "calls",
        "dropped",
        "forwarded",
        "network_deregistrations",
        "outcomes",
        "refused",
        "registrations",
        "released",
        "requests",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.forwarded = 0
        self.refused = 0
        self.dropped = 0
        self.bad_messages = 0
        self.calls = 0
        self.released = 0
        self.registrations = 0
        self.network_deregistrations = 0
        self.bugs = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
