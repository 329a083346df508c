"""What can be saved of a request that cannot be taken, so that its sender is told what was wrong.

RFC 3261 16.3 and 8.2.6: a broken request is answered with what it has of the fields that a response copies, as they
stand: its sender finds its transaction by its own Via and is the only one who has to read them (RFC 4475 3.1.2, 3.3.1).
"""

import re
from collections.abc import Sequence

from imswire.base import ProtocolError
from imswire.sip.headers import Headers, canonical
from imswire.sip.message import Request

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_METHOD = re.compile(_TOKEN)
_VIA_LIKE = re.compile(rf"\s*SIP\s*/\s*[0-9.]{{1,8}}\s*/\s*{_TOKEN}\s+[\[A-Za-z0-9]", re.IGNORECASE | re.ASCII)
_CSEQ_METHOD = re.compile(rf"\S+\s+({_TOKEN})", re.ASCII)
_COPIED = frozenset({"via", "from", "to", "call-id", "cseq"})
_LINES = 257
_LINE_LENGTH = 1024


def salvage(lines: Sequence[str]) -> Request | None:
    """A request made of the start line and what can be answered with, or None where no answer may be sent.

    ``lines`` are the start line and the header lines. A response and an ACK are never answered (RFC 3261 17.1.1.3,
    18.3), nor is what has no Via. Long lines and a second From, To, Call-ID or CSeq are left out.
    """
    start = lines[0]
    if start[:4].upper() == "SIP/":
        return None
    headers = Headers()
    seen: set[str] = set()
    for line in lines[1:_LINES]:
        name, colon, value = line.partition(":")
        key = canonical(name.rstrip()) if len(name) < 64 else ""
        if not colon or key not in _COPIED or len(line) > _LINE_LENGTH or (key in seen and key != "via"):
            continue
        if "via" not in seen and key == "via" and _VIA_LIKE.match(value) is None:
            return None
        seen.add(key)
        try:
            headers.add(name.rstrip(), value.strip())
        except ProtocolError:  # a CR or LF alone: nothing that may be sent back
            return None
    if "via" not in seen:
        return None
    named = start.partition(" ")[0]
    of_cseq = _CSEQ_METHOD.fullmatch(headers.get("cseq") or "")
    method = named if of_cseq is None else of_cseq.group(1)
    if "ACK" in (method, named) or _METHOD.fullmatch(method) is None:
        return None
    return Request(method, start.split(" ")[1] if start.count(" ") == 2 else "sip:invalid", headers)
