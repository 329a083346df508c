"""The m-lines of a session description that is as plain as they come, read without building its model.

Most calls are audio and video over RTP, and who only has to see that nothing else is in them need not read every line.
One expression says what such a body looks like: CRLF throughout, the usual lines in the usual order, m-lines of audio
and video over RTP written in the usual case. Whatever differs has no outline and is for the model to judge
(:class:`~imswire.sdp.model.SessionDescription`), which accepts each body that has one and gives back its octets.
"""

import re

from msgspec import Struct

MOST = 4_096
"""Octets of a body beyond which there is no outline: well within the default bounds on size and lines."""

_PLAIN = re.compile(
    rb"v=0\r\n"
    rb"o=[!-~]+ [0-9]+ [0-9]+ IN IP[46] [!-~]+\r\n"
    rb"s=[^\r\n\0]+\r\n"
    rb"c=IN IP[46] [!-~]+\r\n"
    rb"(?:b=[^\r\n\0]+\r\n)*"
    rb"t=[0-9]+ [0-9]+\r\n"
    rb"(?:[ab]=[^\r\n\0]+\r\n)*"
    rb"(?:m=(?:audio|video) [0-9]{1,5} (?:UDP/TLS/)?RTP/S?AVPF? [0-9]+(?: [0-9]+)*\r\n"
    rb"(?:c=IN IP[46] [!-~]+\r\n)?"
    rb"(?:[ab]=[^\r\n\0]+\r\n)*)+"
)
_MEDIA = re.compile(r"\nm=([a-z]+) ([0-9]+) ([A-Z/]+) ")


class OutlinedMedia(Struct, frozen=True):
    """An m-line: its media type, port (0..65535) and transport."""

    media: str
    port: int
    proto: str

    @property
    def rejected(self) -> bool:
        """Port 0 (RFC 3264 6 and 8.2)."""
        return self.port == 0


class Outline(Struct, frozen=True):
    """The m-lines in order."""

    media: tuple[OutlinedMedia, ...]


def outline(body: bytes, most: int = 64) -> Outline | None:
    """The outline of ``body``; None when it has more than ``most`` m-lines or anything out of the ordinary."""
    if len(body) > MOST or _PLAIN.fullmatch(body) is None:
        return None
    found = _MEDIA.findall(body.decode("utf-8", "replace"))
    media = tuple([OutlinedMedia(kind, int(port), proto) for kind, port, proto in found])
    if len(media) > most or any(line.port > 65_535 for line in media):
        return None
    return Outline(media)
