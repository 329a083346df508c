"""What a ladder is, before anything is drawn: columns, arrows, notes, and the facts that a summary needs."""

from enum import IntEnum, StrEnum

from msgspec import Struct


class Column(IntEnum):
    """The lifelines, left to right, as in TR 29.828 figure 5.2.1.2.2.1."""

    UE = 0
    ALG = 1
    AGW = 2
    CORE = 3


class Tone(StrEnum):
    """What an item speaks of; the renderers choose colour and stroke by it."""

    REQUEST = "request"
    PROVISIONAL = "provisional"
    SUCCESS = "success"
    FAILURE = "failure"
    H248 = "h248"
    TCP = "tcp"
    HELD = "held"
    TLS = "tls"
    VERIFIED = "verified"
    BYTES = "bytes"
    PLAIN = "plain"


class Arrow(Struct, frozen=True):
    """A message from one column to another. ``both`` draws heads at both ends, ``lost`` ends it with a cross before
    its goal.

    ``at`` is seconds since the first item of the ladder; ``details`` are short texts shown below the title.
    """

    at: float
    source: Column
    target: Column
    title: str
    details: tuple[str, ...] = ()
    tone: Tone = Tone.PLAIN
    both: bool = False
    lost: bool = False


class Note(Struct, frozen=True):
    """Something that happened inside one column."""

    at: float
    column: Column
    text: str
    tone: Tone = Tone.PLAIN


Item = Arrow | Note


class Facts(Struct, frozen=True):
    """What was established about the media of a call: the basis of a summary and of an automatic check."""

    tls: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    held: int = 0
    to_core: int = 0
    to_access: int = 0


class Ladder(Struct, frozen=True):
    """One passage of a call (or of a registration) through the access edge.

    ``kind`` is ``originating``, ``terminating``, ``registration`` or ``media`` (AGW lines that no SIP call claims);
    ``started`` is unix seconds; ``names`` are the headings of the columns and ``addresses`` what stands below them.
    """

    kind: str
    call_id: str
    user: str
    target: str
    started: float
    names: tuple[str, str, str, str]
    addresses: tuple[str, str, str, str]
    items: tuple[Item, ...]
    facts: Facts = Facts()

    @property
    def title(self) -> str:
        """A heading in words: ``Originating call of alice to sip:bob@lab.example``."""
        who = f" of {self.user}" if self.user else ""
        match self.kind:
            case "registration":
                return f"Registration{who}"
            case "media":
                return "Media without signalling"
            case "terminating":
                return f"Terminating call to {self.user or self.target}"
            case _:
                return f"Originating call{who} to {self.target}" if self.target else f"Originating call{who}"
