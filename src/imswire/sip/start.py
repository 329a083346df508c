"""Start lines of SIP messages (RFC 3261 7.1, 7.2)."""

import re

from imswire.sip.faults import BadMessage

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
# ASCII only: without that flag IGNORECASE lets letters of other scripts pass for Latin ones.
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([a-z][a-z0-9+.-]*:[!#-;=?-~]+) SIP/2\.0", re.IGNORECASE | re.ASCII)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE | re.ASCII)
_OTHER_VERSION = re.compile(r"\S+ \S+ SIP/(?!2\.0$)[0-9]+\.[0-9]+", re.IGNORECASE | re.ASCII)


type Start = tuple[str, str, int]
"""Method, Request-URI and 0; or an empty text, the reason and the status."""


def read_start(start: str) -> Start:
    """What a start line says; raises :class:`BadMessage`."""
    request = _REQUEST_LINE.fullmatch(start)
    if request is not None:
        return request.group(1), request.group(2), 0
    status = _STATUS_LINE.fullmatch(start)
    if status is not None:
        return "", status.group(2) or "", int(status.group(1))
    if _OTHER_VERSION.fullmatch(start):
        raise BadMessage("sip.version", f"{start[-20:]!r} is not SIP/2.0", status=505)
    raise BadMessage("sip.start-line", f"neither a request line nor a status line: {start[:120]!r}", 0)
