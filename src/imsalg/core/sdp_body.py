"""Where the session description stands in a message: the whole body, or one part of a multipart body (RFC 5621).

Only that part is looked at and replaced; every other octet of the body stays as it is. What is SDP to any reader has to
be SDP here: a body that only others can read would pass the media half by.
"""

import re

from imsalg.core.sip_call import Answer
from imswire.sip.message import Request, Response
from imswire.sip.values import parse_params, unquote

SDP = "application/sdp"
MOST_PARTS = 16
"""Parts of a multipart body that are looked at."""
SEALED = frozenset({"message/sip", "application/pkcs7-mime", "multipart/encrypted"})
"""Bodies that hold a session description for the far end alone (RFC 3261 23); TS 24.229 6.1 has none from UEs."""
_MEDIA_TYPE = re.compile(r"[\w.!%*+`'~-]+/[\w.!%*+`'~-]+", re.ASCII)
_NAMES_SDP = re.compile(rb"^(?:content-type|c)[ \t]*:\s*application\s*/\s*sdp", re.ASCII | re.IGNORECASE | re.MULTILINE)


def sdp_of(message: Request | Response) -> bytes | None:
    """The session description in ``message``, or None."""
    if not message.body:
        return None
    if message.headers.get("content-type") == SDP:  # as nearly everybody writes it
        return message.body
    kind = message.content_type
    if _is_whole(message, kind):
        return message.body
    span = _part(message) if kind.startswith("multipart/") else None
    return message.body[span[1] : span[2]] if span is not None else None


def put_sdp(message: Request | Response, sdp: bytes) -> None:
    """Replace the session description of a message that has one."""
    if message.body is sdp:  # nothing was changed in a body that is nothing else
        return
    if _is_whole(message, message.content_type):
        if message.body != sdp:
            message.body = sdp
        return
    span = _part(message)
    if span is not None:
        message.body = message.body[: span[1]] + sdp + message.body[span[2] :]


def drop_sdp(message: Request | Response) -> None:
    """Take the session description out of ``message``, where the standards give it no meaning."""
    if _is_whole(message, message.content_type):
        message.body = b""
        for name in ("Content-Type", "Content-Disposition"):
            message.headers.remove(name)
        return
    span = _part(message) if sdp_of(message) is not None else None
    if span is not None:
        message.body = message.body[: span[0]] + message.body[span[3] :]


def _is_whole(message: Request | Response, kind: str) -> bool:
    """Whether the body as a whole is a session description; one without a type is what it looks like."""
    return kind == SDP or (not kind and message.body[:2] == b"v=")


def readable(request: Request) -> None:
    """Raise Answer 400, 415 or 488 for a body that cannot be read: it cannot be judged (RFC 3261 8.2.3)."""
    if not request.body:
        return
    headers = request.headers
    if headers.get("content-type") == SDP and "content-encoding" not in headers:
        return
    kind = request.content_type
    if kind == SDP or kind.startswith("multipart/"):
        if any(value.lower() != "identity" for value in headers.values("content-encoding")):
            raise Answer(415, "the session description is encoded", headers=(("Accept-Encoding", "identity"),))
    elif _MEDIA_TYPE.fullmatch(kind) is None:
        raise Answer(400, "Content-Type does not say what the body is")
    if "," in (headers.get("content-type") or "").partition(";")[0]:
        raise Answer(400, "Content-Type has more than one value")
    if kind in SEALED:
        raise Answer(415, "a sealed session description cannot be judged", headers=(("Accept", SDP),))
    if has_hidden_sdp(request):
        raise Answer(488, "SDP in a multipart body beside or inside the part that can be read")


def has_hidden_sdp(message: Request | Response) -> bool:
    """Whether a multipart body has more SDP than the one part that is judged: nested, repeated or encoded.

    What cannot be judged must not pass the edge by.
    """
    if not message.content_type.startswith("multipart/"):
        return False
    return len(_NAMES_SDP.findall(message.body)) > (0 if sdp_of(message) is None else 1)


def _part(message: Request | Response) -> tuple[int, int, int, int] | None:
    """Offsets of the first SDP part: its delimiter, its content, the content's end, the next delimiter."""
    boundary = _boundary(message)
    if not boundary:
        return None
    body, mark = message.body, b"--" + boundary
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if at == 1:  # not found
        return None
    for _ in range(MOST_PARTS):
        head = body.find(b"\r\n", at) + 2
        following = body.find(b"\r\n" + mark, max(head - 2, at))
        if head == 1 or following < 0:
            return None
        start = head if body[head : head + 2] == b"\r\n" else body.find(b"\r\n\r\n", head, following + 2) + 2
        if start != 1 and start + 2 <= following and _is_sdp(body[head:start]):
            return at, start + 2, following, following + 2
        at = following + 2
    return None


def _is_sdp(head: bytes) -> bool:
    """Whether a part's header says SDP, in the clear."""
    found = False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        kind = b"".join(value.partition(b";")[0].split()).lower()
        if name.strip().lower() in (b"content-type", b"c"):
            found = kind == SDP.encode()
        elif name.strip().lower() == b"content-transfer-encoding" and kind not in (b"", b"7bit", b"8bit", b"binary"):
            return False
    return found


def _boundary(message: Request | Response) -> bytes:
    _, found, text = (message.headers.get("content-type") or "").partition(";")
    for name, value in parse_params(found + text):
        if name.lower() == "boundary" and value:
            return unquote(value).encode("utf-8", "surrogateescape")
    return b""
