"""Messages and helpers that the SIP tests share."""

import itertools

from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse
from imswire.sip.transaction import Output, Send

UDP = Flow("udp", "access", ("192.0.2.1", 5060), ("198.51.100.7", 40000))
TCP = Flow("tcp", "access", ("192.0.2.1", 5060), ("198.51.100.7", 40001), 7)
CORE = Flow("udp", "core", ("192.0.2.1", 5062), ("203.0.113.9", 5060))

INVITE_LINES = (
    "INVITE sip:bob@example.org SIP/2.0",
    "v: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bKabc;rport",
    "Max-Forwards:   70",
    "Route: <sip:pcscf.example.org;lr>, <sip:scscf.example.org;lr>",
    'From: "Alice, A." <sip:alice@example.org>;tag=a1',
    "t: <sip:bob@example.org>",
    "Call-ID: call-1@198.51.100.7",
    "CSEQ: 7 INVITE",
    "Contact: <sip:alice@198.51.100.7:40000>",
    "Supported: 100rel,timer ,  path",
    "Record-Route: <sip:edge.example.org;lr>",
    "X-Odd:a",
    "Subject: a folded",
    "\tline",
    "Content-Type: application/sdp; charset=utf-8",
    "Content-Length: 4",
)


def raw(*lines: str, body: bytes = b"") -> bytes:
    """Lines joined by CRLF, an empty line and a body."""
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


INVITE = raw(*INVITE_LINES, body=b"v=0\n")


def request(
    method: str = "INVITE", branch: str = "z9hG4bKabc", *, cseq: int = 7, to: str = "", **extra: str
) -> Request:
    """A small valid request; ``extra`` names are header names with _ for -."""
    lines = [
        f"{method} sip:bob@example.org SIP/2.0",
        f"Via: SIP/2.0/UDP 198.51.100.7:40000;branch={branch};rport",
        "Max-Forwards: 70",
        "From: <sip:alice@example.org>;tag=a1",
        f"To: <sip:bob@example.org>{to}",
        "Call-ID: call-1",
        f"CSeq: {cseq} {method}",
        "Contact: <sip:alice@198.51.100.7:40000>",
        *(f"{name.replace('_', '-')}: {value}" for name, value in extra.items()),
        "Content-Length: 0",
    ]
    message = parse(raw(*lines))
    if not isinstance(message, Request):
        raise TypeError("a request was built")
    return message


class Ids:
    """Numbered branches and tags."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def branch(self) -> str:
        return f"z9hG4bK-{next(self._count)}"

    def tag(self) -> str:
        return f"tag-{next(self._count)}"


def sent(outputs: list[Output]) -> list[Request | Response]:
    """The messages that go out, in order."""
    return [one.message for one in outputs if isinstance(one, Send)]


def kinds(outputs: list[Output]) -> list[str]:
    """Class names of outputs, for comparing whole sequences."""
    return [type(one).__name__ for one in outputs]
