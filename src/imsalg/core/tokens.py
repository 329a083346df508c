"""Opaque, authenticated tokens for the user parts of our Path and Record-Route URIs (RFC 5626 5.2).

A token is a kind letter followed by base64url(MAC || payload); the MAC is keyed BLAKE2b (RFC 7693) of 80 bits over
kind and payload. Whoever does not hold the key can neither make a token nor turn one kind into another.
"""

import base64
import binascii
import hmac
from hashlib import blake2b
from typing import Literal, cast

from imswire.base import ProtocolError
from imswire.sip.flow import Flow, Transport

MAC_OCTETS = 10
"""RFC 5626 5.2 uses HMAC-SHA1-80; keyed BLAKE2b of that length takes a third of the time of an HMAC."""

TOKEN_LIMIT = 512
"""Characters that a token may have before it is looked at."""

TOKEN_LEAST = 1 + 4 * MAC_OCTETS // 3 + 1
"""Characters of the shortest token: the letter and the code in base64, with nothing behind."""

Kind = Literal["a", "c", "p", "x", "y"]
CALL_ACCESS: Kind = "a"
"""Record-Route of a call, access side; the payload is the key of the call."""
CALL_CORE: Kind = "c"
"""Record-Route of a call, core side."""
PATH: Kind = "p"
"""Path of a registration; the payload is the UE's flow."""
FLOW_ACCESS: Kind = "x"
"""Record-Route of any other dialog, access side; the payload is the UE's flow."""
FLOW_CORE: Kind = "y"
"""Record-Route of any other dialog, core side."""
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
KINDS: frozenset[str] = frozenset((CALL_ACCESS, CALL_CORE, PATH, FLOW_ACCESS, FLOW_CORE))


class TokenMint:
    """Makes and checks tokens with one secret ``key`` (at least 16 octets, injected)."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ProtocolError("token.key", f"token key of {len(key)} octets, 16 expected at least")
        self._key = key[:64]
        # Key and kind are taken in once; each token goes on from there.
        self._begun = {kind: blake2b(kind.encode(), digest_size=MAC_OCTETS, key=self._key) for kind in KINDS}

    def _mac(self, kind: str, payload: bytes) -> bytes:
        mac = self._begun[kind].copy()
        mac.update(payload)
        return mac.digest()

    def seal(self, kind: Kind, payload: bytes) -> str:
        """The token for ``payload``."""
        text = binascii.b2a_base64(self._mac(kind, payload) + payload, newline=False)
        return kind + text.translate(_URL_SAFE, b"=").decode("ascii")

    def open(self, token: str) -> tuple[Kind, bytes]:
        """Kind and payload of ``token``; raises ProtocolError ``token.forged`` for anything that we did not make."""
        kind = token[:1]
        if kind not in KINDS or len(token) > TOKEN_LIMIT:
            raise ProtocolError("token.forged", "not a token of this node")
        text = token[1:]
        try:
            blob = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolError("token.forged", "not a token of this node") from None
        mac, payload = blob[:MAC_OCTETS], blob[MAC_OCTETS:]
        if not hmac.compare_digest(mac, self._mac(kind, payload)):
            raise ProtocolError("token.forged", "the token's authentication code does not fit")
        return cast(Kind, kind), payload

    def digest(self, text: str) -> bytes:
        """Twelve hex digits that nobody else can find a second text for."""
        octets = text.encode("utf-8", "surrogateescape")
        return blake2b(octets, digest_size=6, key=self._key, person=b"route").hexdigest().encode()

    def seal_flow(self, kind: Kind, flow: Flow) -> str:
        """A token that carries ``flow``."""
        return self.seal(kind, pack_flow(flow))


def pack_flow(flow: Flow) -> bytes:
    """A flow as octets; the inverse of :func:`unpack_flow`."""
    parts = (flow.transport, flow.realm, *map(str, flow.local), *map(str, flow.remote), str(flow.connection))
    return "|".join(parts).encode()


def unpack_flow(payload: bytes) -> Flow:
    """The flow in an authenticated payload; raises ProtocolError ``token.payload`` when an older version made it."""
    try:
        transport, realm, local_host, local_port, remote_host, remote_port, connection = payload.decode().split("|")
        return Flow(
            cast(Transport, transport),
            realm,
            (local_host, int(local_port)),
            (remote_host, int(remote_port)),
            int(connection),
        )
    except ValueError:
        raise ProtocolError("token.payload", "the token holds no flow") from None
