"""A quick look at the octets of a request, and a refusal spliced from them: for when there is no time to parse.

A node that is overloaded must spend far less on what it refuses than on what it serves. Here a request costs one
pattern over its octets; nothing of it is decoded, checked or kept.
"""

import re
from zlib import crc32

from msgspec import Struct

from imswire.sip.flow import Flow

_COPIED = re.compile(
    rb"\r\n([vV](?:[iI][aA])?|[fF](?:[rR][oO][mM])?|[tT][oO]?|[iI]|[cC][aA][lL]{2}-[iI][dD]|[cC][sS][eE][qQ])"
    rb"[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?=\r\n)"
)
_NAMES = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id"}
_TAG = re.compile(rb";\s*tag\s*=", re.IGNORECASE)
_TOP_VIA = re.compile(
    rb"\s*SIP\s*/\s*2\.0\s*/\s*[a-z0-9]+\s+(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?:\s*:\s*([0-9]{1,5}))?[^,]*", re.IGNORECASE
)
_BRANCH = re.compile(rb";\s*branch\s*=\s*([^\s;,]+)", re.IGNORECASE)
_RPORT = re.compile(rb";\s*rport(?=[\s;,]|$)", re.IGNORECASE)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)  # one that is never closed takes the rest
_CONTACT = re.compile(rb"\r\n(?:contact|m)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_CALLBACK = re.compile(rb"\r\npriority[ \t]*:\s*psap-callback[ \t]*\r\n", re.IGNORECASE)
_TAG_MARK = b"over-"
_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
_HEAD = 16_384  # octets that are looked at; a header section that goes on is not refused in words

IN_DIALOG = frozenset({b"ACK", b"BYE", b"PRACK", b"UPDATE", b"INFO", b"CANCEL"})
"""Methods of what has begun already: the last to be refused."""


class Glance(Struct, frozen=True):
    """What can be seen of a request without parsing it.

    ``new``: it asks for new work, a dialog, a registration or a transaction of its own; all else belongs to something
    that has begun. ``emergency``: it is for an emergency service (RFC 5031, TS 24.229 5.2.10). ``callback``: it says
    that it comes from an emergency centre (RFC 7090 5), which is to be believed from few.
    """

    method: bytes
    uri: bytes
    new: bool
    emergency: bool
    lines: tuple[tuple[bytes, bytes], ...]  # header names and values of what a response copies, as they stand
    key: tuple[str, str]  # branch and sent-by of the top Via, ("", "") when unreadable
    callback: bool = False


def glance(data: bytes) -> Glance:
    """Look at the octets of one request."""
    method, _, rest = data[: data.find(b"\r\n") + 1].partition(b" ")
    end = data.find(b"\r\n\r\n", 0, _HEAD)
    lines = tuple(_COPIED.findall(data, 0, end + 2)) if end > 0 else ()
    uri = rest.partition(b" ")[0]
    emergency = uri[:15].lower() == b"urn:service:sos"
    callback = False
    if method == b"REGISTER" and end > 0:
        emergency = any(_is_sos(match.group(1)) for match in _CONTACT.finditer(data, 0, end + 2))
    elif method == b"INVITE" and end > 0:
        callback = _CALLBACK.search(data, 0, end + 2) is not None
    new = method not in IN_DIALOG and not any(name[:1] in b"tT" and _tagged(value) for name, value in lines)
    return Glance(method, uri, new, emergency, lines, _key(lines), callback)


def _tagged(value: bytes) -> bool:
    """True when To has a tag of its own, not one inside its URI or its display name."""
    return _TAG.search(value) is not None and _TAG.search(_QUOTED.sub(b"", value).rpartition(b">")[2]) is not None


def _is_sos(contact: bytes) -> bool:
    """True for a Contact line with the URI parameter ``sos`` (TS 24.229 5.1.6.2)."""
    if b"sos" not in contact.lower():
        return False
    for part in _QUOTED.sub(b"", contact).split(b"<")[1:]:
        host = part.partition(b">")[0].rpartition(b"@")[2].partition(b"?")[0]
        if any(param.partition(b"=")[0].strip().lower() == b"sos" for param in host.split(b";")[1:]):
            return True
    return False


def _key(lines: tuple[tuple[bytes, bytes], ...]) -> tuple[str, str]:
    for name, value in lines:
        if name[:1] in b"vV":
            top = _TOP_VIA.match(value)
            branch = None if top is None else _BRANCH.search(top.group())
            if top is None or branch is None:
                return "", ""
            host = top.group(1).decode("ascii").lower()
            port = "" if top.group(2) is None else f":{top.group(2).decode('ascii')}"
            return branch.group(1).decode("utf-8", "surrogateescape"), host + port
    return "", ""


def is_ack_of_refusal(data: bytes) -> bool:
    """True for the ACK of a response that :func:`refusal` made: nobody waits for it."""
    return data[:4] == b"ACK " and b"tag=" + _TAG_MARK in data[:_HEAD]


def refusal(seen: Glance, flow: Flow, start: bytes, headers: bytes = b"") -> tuple[bytes, Flow] | None:
    """A final response by splicing, and where it goes (RFC 3261 8.2.6, 18.2.1, 18.2.2, RFC 3581 4).

    ``start`` is the status line after ``SIP/2.0``, ``headers`` whole lines with their CRLF. Its To tag is made from the
    request alone, so that a repeated request gets the same response without anything being kept (8.2.7). None where no
    answer may be sent: to an ACK, and to what has no Via or not all that a response copies. It is hardly longer than
    the request, so that a forged source address gains nothing by it.
    """
    if seen.method == b"ACK":
        return None
    found: set[bytes] = set()
    out: list[bytes] = [b"SIP/2.0 ", start]
    target = flow
    for name, value in seen.lines:
        key = name.lower()
        key = _NAMES.get(key, key)
        if key == b"via" and b"via" not in found:
            top = _TOP_VIA.match(value)
            if top is None:
                return None
            value, target = _filled(value, top, flow)
        elif key == b"to" and not _tagged(value):
            value += b";tag=%s%08x" % (_TAG_MARK, crc32(b"".join([text for _, text in seen.lines])))
        elif key in found and key != b"via":
            return None
        found.add(key)
        out += (b"\r\n", name, b":", value)
    if len(found) != 5:
        return None
    out += (b"\r\n", headers, b"Content-Length: 0\r\n\r\n")
    return b"".join(out), target


def _filled(value: bytes, top: re.Match[bytes], flow: Flow) -> tuple[bytes, Flow]:
    """The line of the top Via with received and rport, and the flow that the response takes."""
    host, port = flow.remote
    first, rest = top.group(), value[top.end() :]
    if (asked := _RPORT.search(first)) is not None:
        filled = b";rport=%d;received=%s" % (port, host.encode("ascii"))
        return first[: asked.start()] + filled + first[asked.end() :] + rest, flow
    if host.encode("ascii") != top.group(1).strip(b"[]").lower():
        first += b";received=" + host.encode("ascii")
    named = _DEFAULT_PORT[flow.transport] if top.group(2) is None else int(top.group(2))
    if flow.reliable or named == port or not 0 < named < 65536:
        return first + rest, flow
    return first + rest, Flow(flow.transport, flow.realm, flow.local, (host, named))
