"""MSRP requests and responses without their bodies (RFC 4975 7 and 9): a head is the start line and the headers.

A head that passed :func:`parse_head` is well-formed line by line; :meth:`RequestHead.validate` checks what its
method needs, so that a receiver can still answer 400 to a request whose framing was sound.
Text is UTF-8 with surrogateescape: what was read can always be written again.
"""

import re

from msgspec import Struct

from imswire.base import ProtocolError

_START = re.compile(
    rb"MSRP ([A-Za-z0-9][A-Za-z0-9.\-+%=]{3,31}) (?:([A-Z]{1,32})|([0-9]{3})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?)"
)
_IDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-+%=]{3,31}")
_NAME = re.compile(r"[A-Za-z][!#$%&'*+\-.0-9A-Z^_`a-z{|}~]*")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18}|\*)/([0-9]{1,18}|\*)")
_STATUS = re.compile(r"([0-9]{3}) ([0-9]{3})(?: (.*))?")

COMMENTS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    408: "Timeout",
    413: "Message Too Large",
    415: "Unsupported Media Type",
    423: "Parameter Out Of Bounds",
    481: "No Such Session",
    501: "Not Implemented",
    506: "Session In Use",
}
"""Comment phrases for the codes of RFC 4975 10."""

Headers = tuple[tuple[str, str], ...]


class ByteRange(Struct, frozen=True):
    """``start-end/total`` (RFC 4975 7.1.1). The first octet of a message is 1; None stands for ``*``."""

    start: int
    end: int | None
    total: int | None

    @classmethod
    def parse(cls, value: str) -> "ByteRange":
        """Read the value; raises ``msrp.byte-range``. An end before the start is allowed by one (``1-0/0``)."""
        match = _RANGE.fullmatch(value.strip())
        if match is None:
            raise ProtocolError("msrp.byte-range", f"start-end/total expected: {value[:60]!r}")
        start = int(match[1])
        end = None if match[2] == "*" else int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if start < 1 or (end is not None and end < start - 1):
            raise ProtocolError("msrp.byte-range", f"impossible range {value[:60]!r}")
        if total is not None and (start > total + 1 or (end is not None and end > total)):
            raise ProtocolError("msrp.byte-range", f"range beyond its total {value[:60]!r}")
        return cls(start, end, total)

    def __str__(self) -> str:
        end = "*" if self.end is None else self.end
        total = "*" if self.total is None else self.total
        return f"{self.start}-{end}/{total}"


class Status(Struct, frozen=True):
    """The Status header of a REPORT (RFC 4975 7.1.2): namespace, code, comment."""

    code: int
    comment: str = ""
    namespace: str = "000"

    @classmethod
    def parse(cls, value: str) -> "Status":
        """Read the value; raises ``msrp.status``."""
        match = _STATUS.fullmatch(value.strip())
        if match is None:
            raise ProtocolError("msrp.status", f"namespace and code expected: {value[:60]!r}")
        return cls(int(match[2]), match[3] or "", match[1])

    def __str__(self) -> str:
        return f"{self.namespace} {self.code:03d} {self.comment}".rstrip()


class RequestHead(Struct, frozen=True):
    """Start line and headers of a request. ``has_body``: a blank line ended the headers, so octets follow."""

    transaction_id: str
    method: str
    headers: Headers
    has_body: bool = False

    def get(self, name: str) -> str | None:
        """The first header of that name (letter case ignored), or None."""
        return _get(self.headers, name)

    @property
    def to_path(self) -> str:
        """The To-Path value; raises ``msrp.to-path`` where absent."""
        return _need(self.headers, "To-Path", "msrp.to-path")

    @property
    def from_path(self) -> str:
        """The From-Path value; raises ``msrp.from-path`` where absent."""
        return _need(self.headers, "From-Path", "msrp.from-path")

    @property
    def message_id(self) -> str:
        """The Message-ID; raises ``msrp.message-id`` where absent or malformed."""
        value = _need(self.headers, "Message-ID", "msrp.message-id")
        if not is_ident(value):
            raise ProtocolError("msrp.message-id", f"not an identifier: {value[:60]!r}")
        return value

    @property
    def byte_range(self) -> ByteRange | None:
        """The Byte-Range, None where absent (then: from 1, all of it); raises ``msrp.byte-range``."""
        value = _get(self.headers, "Byte-Range")
        return None if value is None else ByteRange.parse(value)

    @property
    def success_report(self) -> bool:
        """Whether success reports are asked for (default no); raises ``msrp.success-report``."""
        value = (_get(self.headers, "Success-Report") or "no").lower()
        if value not in ("yes", "no"):
            raise ProtocolError("msrp.success-report", f"yes or no expected: {value[:20]!r}")
        return value == "yes"

    @property
    def failure_report(self) -> str:
        """``yes`` (default), ``no`` or ``partial``; raises ``msrp.failure-report``."""
        value = (_get(self.headers, "Failure-Report") or "yes").lower()
        if value not in ("yes", "no", "partial"):
            raise ProtocolError("msrp.failure-report", f"yes, no or partial expected: {value[:20]!r}")
        return value

    @property
    def status(self) -> Status:
        """The Status of a REPORT; raises ``msrp.status`` where absent or malformed."""
        return Status.parse(_need(self.headers, "Status", "msrp.status"))

    @property
    def content_type(self) -> str | None:
        """The Content-Type as written, None where absent."""
        return _get(self.headers, "Content-Type")

    def validate(self) -> None:
        """Check what the method needs; raises ``msrp.*``. Other methods need only the two paths."""
        _paths_first(self.headers)
        if self.method in ("SEND", "REPORT"):
            _ = self.message_id, self.byte_range
        if self.method == "SEND":
            _ = self.success_report, self.failure_report
            if self.has_body and self.content_type is None:
                raise ProtocolError("msrp.content-type", "a body without a Content-Type")
        elif self.method == "REPORT":
            _ = self.status

    def to_bytes(self) -> bytes:
        """Start line and headers; with ``has_body`` the blank line too. The end-line is not part of it."""
        return _serialise(f"MSRP {self.transaction_id} {self.method}", self.headers, self.has_body)

    def end_line(self, flag: str = "$") -> bytes:
        """The end-line; with ``has_body`` the CRLF before it, which is not part of the body."""
        return f"{'\r\n' if self.has_body else ''}-------{self.transaction_id}{flag}\r\n".encode()


class ResponseHead(Struct, frozen=True):
    """Start line and headers of a response; it has no body."""

    transaction_id: str
    status: int
    comment: str
    headers: Headers

    def get(self, name: str) -> str | None:
        """The first header of that name (letter case ignored), or None."""
        return _get(self.headers, name)

    @property
    def to_path(self) -> str:
        """The To-Path value; raises ``msrp.to-path`` where absent."""
        return _need(self.headers, "To-Path", "msrp.to-path")

    @property
    def from_path(self) -> str:
        """The From-Path value; raises ``msrp.from-path`` where absent."""
        return _need(self.headers, "From-Path", "msrp.from-path")

    def to_bytes(self) -> bytes:
        """The whole response, end-line included."""
        start = f"MSRP {self.transaction_id} {self.status:03d}"
        head = _serialise(f"{start} {self.comment}" if self.comment else start, self.headers, False)
        return head + f"-------{self.transaction_id}$\r\n".encode()


Head = RequestHead | ResponseHead


def is_ident(text: str) -> bool:
    """Whether ``text`` may be a transaction id or Message-ID: 4 to 32 characters, alphanumeric first."""
    return _IDENT.fullmatch(text) is not None


def parse_start(line: bytes) -> tuple[str, str | None, int, str]:
    """Read a start line without CRLF: (transaction id, method or None, status or 0, comment); ``msrp.start-line``."""
    match = _START.fullmatch(line)
    if match is None:
        raise ProtocolError("msrp.start-line", f"not an MSRP start line: {line[:60]!r}", 0)
    method = None if match[2] is None else match[2].decode()
    comment = (match[4] or b"").decode("utf-8", "surrogateescape")
    return match[1].decode(), method, int(match[3] or 0), comment


def parse_head(raw: bytes, *, has_body: bool = False) -> Head:
    """Read start line and header lines, each ended by CRLF, without the blank line or end-line after them.

    Raises ``msrp.start-line``, ``msrp.header`` (a line that is no header) or, for a response with a body,
    ``msrp.response-body``; offsets count octets of ``raw``.
    """
    lines = raw.split(b"\r\n")
    if lines.pop() != b"":
        raise ProtocolError("msrp.header", "the last line is not ended", len(raw))
    if not lines:
        raise ProtocolError("msrp.start-line", "empty", 0)
    transaction_id, method, status, comment = parse_start(lines[0])
    headers: list[tuple[str, str]] = []
    offset = len(lines[0]) + 2
    for line in lines[1:]:
        name, colon, value = line.decode("utf-8", "surrogateescape").partition(":")
        if not colon or not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise ProtocolError("msrp.header", f"not a header line: {line[:60]!r}", offset)
        headers.append((name, value.strip(" \t")))
        offset += len(line) + 2
    if method is not None:
        return RequestHead(transaction_id, method, tuple(headers), has_body)
    if has_body:
        raise ProtocolError("msrp.response-body", "a response has no body", len(raw))
    return ResponseHead(transaction_id, status, comment, tuple(headers))


def response_to(request: RequestHead, status: int, local_uri: str | None = None) -> ResponseHead | None:
    """The response to a request (RFC 4975 7.2), or None where its Failure-Report wants none (7.1.4).

    To a SEND it goes to the previous hop only, the leftmost From-Path URI; to any other method to the whole path.
    ``local_uri`` None takes the rightmost To-Path URI: good for a 481, where there is no session. Raises
    ``msrp.from-path`` where there is nobody to answer to.
    """
    wanted = (request.get("Failure-Report") or "yes").lower()
    if wanted == "no" or (wanted == "partial" and status == 200) or request.method == "REPORT":
        return None
    path = request.from_path.split()
    if not path:
        raise ProtocolError("msrp.from-path", "empty")
    to_path = path[0] if request.method == "SEND" else " ".join(path)
    own = local_uri if local_uri is not None else request.to_path.split()[-1]
    return ResponseHead(
        request.transaction_id, status, COMMENTS.get(status, ""), (("To-Path", to_path), ("From-Path", own))
    )


def report_on(
    request: RequestHead, transaction_id: str, local_uri: str, status: Status, byte_range: ByteRange
) -> RequestHead:
    """A REPORT about a SEND (RFC 4975 7.1.2): it takes the whole path back and asks for no report itself."""
    headers = (
        ("To-Path", request.from_path),
        ("From-Path", local_uri),
        ("Message-ID", request.message_id),
        ("Byte-Range", str(byte_range)),
        ("Status", str(status)),
    )
    return RequestHead(transaction_id, "REPORT", headers)


def _get(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    for key, value in headers:
        if key == name or key.lower() == wanted:
            return value
    return None


def _need(headers: Headers, name: str, reason: str) -> str:
    value = _get(headers, name)
    if not value:
        raise ProtocolError(reason, f"no {name}")
    return value


def _paths_first(headers: Headers) -> None:
    names = [name.lower() for name, _ in headers[:2]]
    if names != ["to-path", "from-path"]:
        raise ProtocolError("msrp.paths", "To-Path and From-Path are the first two headers")
    if not headers[0][1] or not headers[1][1]:
        raise ProtocolError("msrp.paths", "an empty path")


def _serialise(start: str, headers: Headers, blank: bool) -> bytes:
    lines = [start]
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise ProtocolError("msrp.header", f"{name[:30]}: {value[:60]!r} does not fit a header line")
        lines.append(f"{name}: {value}")
    lines.append("\r\n" if blank else "")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")
