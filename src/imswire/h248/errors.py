"""H.248 error codes in ONE table (RFC 3525 7.1.19; meanings as registered by H.248.8) and the error with one."""

from imswire.base import ProtocolError
from imswire.h248.model import ErrorDescriptor, Message, TransactionReply

CODES: dict[int, str] = {
    400: "Syntax error in message",
    401: "Protocol error",
    402: "Unauthorized",
    403: "Syntax error in transaction request",
    406: "Version not supported",
    410: "Incorrect identifier",
    411: "The transaction refers to an unknown ContextID",
    412: "No ContextIDs available",
    421: "Unknown action or illegal combination of actions",
    422: "Syntax error in action",
    430: "Unknown TerminationID",
    431: "No TerminationID matched a wildcard",
    432: "Out of TerminationIDs or no TerminationID available",
    433: "TerminationID is already in a context",
    434: "Maximum number of terminations in a context exceeded",
    435: "TerminationID is not in the specified context",
    440: "Unsupported or unknown package",
    441: "Missing Remote or Local descriptor",
    442: "Syntax error in command",
    443: "Unsupported or unknown command",
    444: "Unsupported or unknown descriptor",
    445: "Unsupported or unknown property",
    446: "Unsupported or unknown parameter",
    447: "Descriptor not legal in this command",
    448: "Descriptor appears twice in a command",
    449: "Unsupported or unknown parameter or property value",
    450: "No such property in this package",
    451: "No such event in this package",
    452: "No such signal in this package",
    453: "No such statistic in this package",
    454: "No such parameter value in this package",
    455: "Property illegal in this descriptor",
    456: "Property appears twice in this descriptor",
    457: "Missing parameter in signal or event",
    458: "Unexpected event or request ID",
    459: "Unsupported or unknown profile",
    471: "Implied Add for multiplex failure",
    500: "Internal software failure in the MG or MGC",
    501: "Not implemented",
    502: "Not ready",
    503: "Service unavailable",
    504: "Command received from unauthorized entity",
    505: "Transaction request received before a ServiceChange reply has been received",
    506: "Number of TransactionPendings exceeded",
    510: "Insufficient resources",
    511: "Temporarily busy",
    512: "Media gateway unequipped to detect requested event",
    513: "Media gateway unequipped to generate requested signals",
    515: "Unsupported media type",
    517: "Unsupported or invalid mode",
    518: "Event buffer full",
    521: "Termination is ServiceChanging",
    526: "Insufficient bandwidth",
    529: "Internal hardware failure in MG",
    530: "Temporary network failure",
    531: "Permanent network failure",
    532: "Audited property, statistic, event or signal does not exist",
    533: "Response exceeds maximum transport PDU size",
    534: "Illegal write of read-only property",
    542: "Command is not allowed on this termination",
    581: "Does not exist",
}


class H248Error(ProtocolError):
    """A fault that H.248 answers with an error descriptor.

    ``code`` is one of :data:`CODES`; ``reason`` (of the base class) is ``h248.<code>``. What the parser knew when it
    met the fault: ``version`` of the protocol; ``transaction_id`` of the transaction *request* at fault, or None;
    ``parsed`` holds the whole transactions that stood before the fault (transactions in one message are independent,
    RFC 3525 8.3). ``answerable`` is False where an answer could loop: the fault is inside a reply, a pending or an
    acknowledgement.
    """

    def __init__(
        self,
        code: int,
        hint: str = "",
        offset: int = -1,
        *,
        transaction_id: int | None = None,
        version: int | None = None,
        parsed: Message | None = None,
        answerable: bool = True,
    ) -> None:
        super().__init__(f"h248.{code}", hint, offset)
        self.code = code
        self.transaction_id = transaction_id
        self.version = version
        self.parsed = parsed
        self.answerable = answerable

    def descriptor(self) -> ErrorDescriptor:
        """The error descriptor to answer with: the code and a text of the registered meaning and the hint."""
        return error(self.code, self.hint)


def quotable(text: str) -> str:
    """``text`` made fit for a quotedString (RFC 3525 B.2): printable US-ASCII without double quotes.

    A double quote becomes a single one, a control character a space, anything beyond ASCII a question mark.
    """
    if text.isascii() and text.isprintable() and '"' not in text:
        return text
    fitted = ("'" if c == '"' else c if " " <= c <= "~" else "?" if c > "~" else " " for c in text)
    return "".join(fitted)


def error(code: int, detail: str = "") -> ErrorDescriptor:
    """An error descriptor whose text is the registered meaning, followed by ``: detail`` if there is one."""
    meaning = CODES.get(code, "Error")
    return ErrorDescriptor(code, quotable(f"{meaning}: {detail}" if detail else meaning))


def error_answer(fault: H248Error, mid: str) -> Message | None:
    """The message that answers input at fault, sent by ``mid``; None where no answer may be given.

    A known transaction request gets a reply with the error descriptor; anything else an error for the whole message
    (RFC 3525 8.2.2 and 8.3).
    """
    if not fault.answerable:
        return None
    if fault.transaction_id is None:
        return Message(mid, error=fault.descriptor())
    return Message(mid, (TransactionReply(fault.transaction_id, error=fault.descriptor()),))
