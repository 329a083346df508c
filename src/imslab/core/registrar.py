"""The registrar of the lab core: bindings per user with Path (RFC 3327), Service-Route (RFC 3608) and digest (RFC
7616). Pure.
"""

from msgspec import Struct

from imslab.core.settings import CoreSettings
from imswire.base import ProtocolError
from imswire.sip.auth import Challenge, Credentials, Nonces, NonceVerdict, secret_of, verify
from imswire.sip.message import Request, Response
from imswire.sip.transaction import IdSource
from imswire.sip.uri import SipUri
from imswire.sip.values import NameAddr

_BINDINGS_PER_USER = 16
_MINIMUM = 5


class Binding(Struct, frozen=True):
    """A registered contact and the way to it: ``path`` is what a request to it carries as Route, first hop first."""

    contact: NameAddr
    path: tuple[str, ...]
    expires_at: float
    call_id: str
    cseq: int


class Registrar:
    """Who is reachable where. ``service_route`` is the Route a registered UE is told to use for its own requests."""

    def __init__(self, settings: CoreSettings, ids: IdSource) -> None:
        self._settings = settings
        self._ids = ids
        self._bindings: dict[str, dict[str, Binding]] = {}
        self._nonces = Nonces(lifetime=120.0, limit=4096)
        self.service_route = ""

    def bindings(self, user: str, now: float) -> list[Binding]:
        """The contacts of a user that have not expired, the newest first."""
        return [b for b in reversed(self._bindings.get(user, {}).values()) if b.expires_at > now]

    def remove(self, user: str, now: float) -> list[Binding]:
        """Forget all contacts of a user; those that were still there."""
        gone = self.bindings(user, now)
        self._bindings.pop(user, None)
        return gone

    def knows(self, user: str) -> bool:
        """True for a user who may register."""
        return user in self._settings.users or not self._settings.authenticate

    def register(self, request: Request, now: float) -> Response:
        """The answer to a REGISTER (RFC 3261 10.3); raises ProtocolError for headers that cannot be read."""
        user = request.to.sip_uri.user or ""
        if request.to.sip_uri.host.lower() != self._settings.domain:
            return request.reply(404)
        if not self.knows(user):
            return request.reply(403, headers=[("Warning", '399 core "no such user"')])
        if self._settings.authenticate:
            refusal = self._challenge(request, user, now)
            if refusal is not None:
                return refusal
        if not self._update(request, user, now):
            return request.reply(400, headers=[("Warning", '399 core "CSeq out of order or too many contacts"')])
        return self._accept(request, user, now)

    def _challenge(self, request: Request, user: str, now: float) -> Response | None:
        """None for valid credentials, else the 401 (403 for a wrong password) to send."""
        domain = self._settings.domain
        stale = False
        for text in request.headers.get_all("authorization"):
            credentials = Credentials.parse(text)
            algorithm = next((a for a in self._settings.algorithms if a.lower() == credentials.algorithm.lower()), None)
            named = credentials.username in (user, f"{user}@{domain}")
            if credentials.realm != domain or not named or algorithm is None or not credentials.response:
                continue
            secret = secret_of(algorithm, credentials.username, domain, self._settings.users.get(user, ""))
            if not verify(credentials, method=request.method, secret=secret, algorithm=algorithm):
                return request.reply(403, headers=[("Warning", '399 core "wrong password"')])
            if self._nonces.check(credentials, now) is NonceVerdict.FRESH:
                return None
            stale = True
        nonce = self._nonces.give(self._ids.tag() + self._ids.tag(), now)
        offered = [Challenge.digest(domain, nonce, algorithm=name, stale=stale) for name in self._settings.algorithms]
        return request.reply(401, headers=[("WWW-Authenticate", str(challenge)) for challenge in offered])

    def _update(self, request: Request, user: str, now: float) -> bool:
        mine = {uri: b for uri, b in self._bindings.get(user, {}).items() if b.expires_at > now}
        call_id, cseq = request.call_id, request.cseq.number
        if any(b.call_id == call_id and b.cseq >= cseq for b in mine.values()):
            return False
        path = tuple(request.headers.values("path"))
        if request.contact_star:
            mine = {}
        else:
            for contact in request.contacts:
                life = self._lifetime(contact, request.expires)
                key = _key(contact.uri)
                mine.pop(key, None)
                if life > 0:
                    bare = contact.without_param("expires")
                    mine[key] = Binding(bare, path, now + life, call_id, cseq)
        if len(mine) > _BINDINGS_PER_USER:
            return False
        self._bindings[user] = mine
        return True

    def _lifetime(self, contact: NameAddr, header: int | None) -> int:
        text = contact.param("expires")
        asked = int(text) if text and text.isascii() and text.isdigit() else header
        if asked is None:
            asked = self._settings.expires
        return 0 if asked == 0 else max(_MINIMUM, min(asked, self._settings.expires))

    def _accept(self, request: Request, user: str, now: float) -> Response:
        answer = request.reply(200)
        for binding in self.bindings(user, now):
            left = max(1, round(binding.expires_at - now))
            answer.headers.add("Contact", str(binding.contact.with_param("expires", str(left))))
        if request.has_option("supported", "path") or request.headers.values("path"):
            for value in request.headers.values("path"):
                answer.headers.add("Path", value)
        answer.headers.add("Service-Route", self.service_route)
        answer.headers.add("P-Associated-URI", f"<sip:{user}@{self._settings.domain}>")
        if self._settings.reg_event:
            answer.headers.add("Allow-Events", "reg")
        return answer


def _key(uri: str) -> str:
    try:
        parsed = SipUri.parse(uri)
    except ProtocolError:
        return uri
    return f"{parsed.user or ''}@{parsed.hostport.lower()};{parsed.transport}"
