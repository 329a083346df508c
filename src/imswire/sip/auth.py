"""Digest access authentication of SIP (RFC 3261 22, RFC 7616, RFC 2617; RFC 8760 for SHA-256 in SIP).

Challenges and credentials keep their parameters as written. Secrets and nonces are given by the caller; nothing here
makes randomness.
"""

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Self

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.sip.values import quote, unquote

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s+")
_PARAM = re.compile(r"\s*([A-Za-z0-9.!%*_+`'~-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)\s*(?:,|$)", re.DOTALL)

# Best first. AKAv1-MD5 (RFC 3310) is MD5 over the RES octets as password.
ALGORITHMS: tuple[str, ...] = ("SHA-256-sess", "SHA-256", "MD5-sess", "MD5", "AKAv1-MD5")
_HASHES = {"md5": "md5", "sha-256": "sha256", "akav1-md5": "md5"}


class AuthValue(Struct, frozen=True):
    """A challenge or credentials: a scheme and parameters in order, values raw (quotes kept)."""

    scheme: str
    params: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one header line; raises ProtocolError ``sip.auth``."""
        scheme = _SCHEME.match(text)
        if scheme is None:
            raise ProtocolError("sip.auth", f"not a challenge or credentials: {text[:80]!r}")
        pairs: list[tuple[str, str]] = []
        position, end = scheme.end(), len(text)
        while position < end:
            match = _PARAM.match(text, position)
            if match is None:
                raise ProtocolError("sip.auth", f"not a parameter: {text[position : position + 80]!r}", position)
            pairs.append((match.group(1), match.group(2)))
            position = match.end()
        names = [name.lower() for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ProtocolError("sip.auth", "a parameter stands twice")
        return cls(scheme.group(1), tuple(pairs))

    def __str__(self) -> str:
        return f"{self.scheme} " + ", ".join(f"{name}={value}" for name, value in self.params)

    def param(self, name: str) -> str | None:
        """The value of a parameter without quotes, or None."""
        for key, value in self.params:
            if key.lower() == name:
                return unquote(value)
        return None

    @property
    def is_digest(self) -> bool:
        """True for the scheme Digest."""
        return self.scheme.lower() == "digest"

    @property
    def realm(self) -> str:
        """The realm, "" when absent."""
        return self.param("realm") or ""

    @property
    def nonce(self) -> str:
        """The nonce, "" when absent."""
        return self.param("nonce") or ""

    @property
    def opaque(self) -> str | None:
        """The opaque value, or None."""
        return self.param("opaque")

    @property
    def algorithm(self) -> str:
        """The algorithm as written; MD5 when absent."""
        return self.param("algorithm") or "MD5"


class Challenge(AuthValue, frozen=True):
    """A WWW-Authenticate or Proxy-Authenticate value."""

    @classmethod
    def digest(
        cls,
        realm: str,
        nonce: str,
        *,
        algorithm: str = "MD5",
        qop: tuple[str, ...] = ("auth",),
        opaque: str | None = None,
        stale: bool = False,
    ) -> "Challenge":
        """Make a Digest challenge; an empty ``qop`` gives the old form of RFC 2069."""
        pairs = [("realm", quote(realm)), ("nonce", quote(nonce))]
        if opaque is not None:
            pairs.append(("opaque", quote(opaque)))
        if stale:
            pairs.append(("stale", "true"))
        pairs.append(("algorithm", algorithm))
        if qop:
            pairs.append(("qop", quote(",".join(qop))))
        return cls("Digest", tuple(pairs))

    @property
    def qops(self) -> tuple[str, ...]:
        """The qualities of protection on offer, in lower case; empty for the old form of RFC 2069."""
        return tuple(part.strip().lower() for part in (self.param("qop") or "").split(",") if part.strip())

    @property
    def stale(self) -> bool:
        """True when only the nonce was too old: the same credentials do with the new one."""
        return (self.param("stale") or "").lower() == "true"


class Credentials(AuthValue, frozen=True):
    """An Authorization or Proxy-Authorization value."""

    @property
    def username(self) -> str:
        """The user name, "" when absent."""
        return self.param("username") or ""

    @property
    def uri(self) -> str:
        """The digest URI, "" when absent."""
        return self.param("uri") or ""

    @property
    def response(self) -> str:
        """The response in hexadecimal, "" when absent."""
        return self.param("response") or ""

    @property
    def qop(self) -> str | None:
        """The quality of protection used, in lower case, or None."""
        value = self.param("qop")
        return value.lower() if value else None

    @property
    def cnonce(self) -> str | None:
        """The client's nonce, or None."""
        return self.param("cnonce")

    @property
    def nonce_count(self) -> int:
        """nc as a number; 0 when absent; raises ProtocolError ``sip.auth`` when it is not eight hexadecimal digits."""
        text = self.param("nc")
        if text is None:
            return 0
        if not re.fullmatch(r"[0-9A-Fa-f]{8}", text):
            raise ProtocolError("sip.auth", f"nc is {text[:20]!r}")
        return int(text, 16)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _hash(algorithm: str, data: bytes) -> str:
    base = algorithm.lower().removesuffix("-sess")
    name = _HASHES.get(base)
    if name is None:
        raise ProtocolError("sip.auth-algorithm", f"algorithm {algorithm!r} is not known")
    return hashlib.new(name, data, usedforsecurity=False).hexdigest()


def secret_of(algorithm: str, username: str, realm: str, password: str | bytes) -> str:
    """H(username:realm:password), what a server may store instead of the password (RFC 7616 3.4.2).

    Raises ProtocolError ``sip.auth-algorithm``.
    """
    octets = _octets(password) if isinstance(password, str) else password
    return _hash(algorithm, _octets(f"{username}:{realm}:") + octets)


def digest_response(
    algorithm: str,
    secret: str,
    *,
    method: str,
    uri: str,
    nonce: str,
    qop: str | None = None,
    cnonce: str | None = None,
    nonce_count: int = 0,
) -> str:
    """The response value of RFC 7616 3.4.1 for ``secret`` from :func:`secret_of`; qop ``auth`` or None (RFC 2069 form).

    Raises ProtocolError ``sip.auth-algorithm`` or ``sip.auth`` (another qop; no cnonce where one is needed).
    """
    if qop not in (None, "auth"):
        raise ProtocolError("sip.auth", f"qop {qop!r} is not supported")
    if cnonce is None and (qop is not None or algorithm.lower().endswith("-sess")):
        raise ProtocolError("sip.auth", "cnonce is missing")
    if algorithm.lower().endswith("-sess"):
        secret = _hash(algorithm, _octets(f"{secret}:{nonce}:{cnonce}"))
    what = _hash(algorithm, _octets(f"{method}:{uri}"))
    middle = nonce if qop is None else f"{nonce}:{nonce_count:08x}:{cnonce}:{qop}"
    return _hash(algorithm, _octets(f"{secret}:{middle}:{what}"))


def verify(credentials: Credentials, *, method: str, secret: str, algorithm: str) -> bool:
    """Whether the response was made with ``secret`` by ``algorithm`` (the challenge's, never the client's choice).

    Realm, nonce and freshness are the caller's to check (:class:`Nonces`). Bad credentials give False.
    """
    if not credentials.is_digest or credentials.algorithm.lower() != algorithm.lower():
        return False
    try:
        wanted = digest_response(
            algorithm,
            secret,
            method=method,
            uri=credentials.uri,
            nonce=credentials.nonce,
            qop=credentials.qop,
            cnonce=credentials.cnonce,
            nonce_count=credentials.nonce_count,
        )
    except ProtocolError:
        return False
    return hmac.compare_digest(wanted.encode(), _octets(credentials.response.lower()))


def verify_credentials(
    credentials: Credentials, *, method: str, password: str | bytes, algorithms: tuple[str, ...] = ALGORITHMS
) -> bool:
    """Like :func:`verify` for a server that holds the password itself and offered all of ``algorithms``."""
    offered = [name for name in algorithms if name.lower() == credentials.algorithm.lower()]
    if not offered:
        return False
    secret = secret_of(offered[0], credentials.username, credentials.realm, password)
    return verify(credentials, method=method, secret=secret, algorithm=offered[0])


def choose(challenges: Iterable[str]) -> Challenge | None:
    """The strongest Digest challenge that can be answered (RFC 7616 3.7); None when there is none."""
    usable: list[tuple[int, Challenge]] = []
    known = [name.lower() for name in ALGORITHMS]
    for text in challenges:
        challenge = Challenge.parse(text)
        algorithm = challenge.algorithm.lower()
        if challenge.is_digest and algorithm in known and (not challenge.qops or "auth" in challenge.qops):
            usable.append((known.index(algorithm), challenge))
    return min(usable, key=lambda pair: pair[0])[1] if usable else None


class DigestClient:
    """The client's side of one protection space: keeps the challenge and counts the uses of its nonce.

    ``cnonce`` gives a new client nonce each time it is called.
    """

    def __init__(self, username: str, password: str | bytes, cnonce: Callable[[], str]) -> None:
        self._username = username
        self._password = password
        self._cnonce = cnonce
        self._count = 0
        self.challenge: Challenge | None = None

    def learn(self, challenges: Iterable[str]) -> bool:
        """Take the challenges of a 401 or 407; False when none can be answered. Raises ProtocolError."""
        challenge = choose(challenges)
        if challenge is not None and (self.challenge is None or challenge.nonce != self.challenge.nonce):
            self._count = 0
        self.challenge = challenge
        return challenge is not None

    def authorize(self, method: str, uri: str) -> Credentials:
        """Credentials for one request; raises ProtocolError ``sip.auth`` before any challenge was learnt."""
        challenge = self.challenge
        if challenge is None:
            raise ProtocolError("sip.auth", "no challenge to answer")
        self._count += 1
        qop = "auth" if challenge.qops else None
        sess = challenge.algorithm.lower().endswith("-sess")
        cnonce = self._cnonce() if qop or sess else None
        secret = secret_of(challenge.algorithm, self._username, challenge.realm, self._password)
        response = digest_response(
            challenge.algorithm,
            secret,
            method=method,
            uri=uri,
            nonce=challenge.nonce,
            qop=qop,
            cnonce=cnonce,
            nonce_count=self._count,
        )
        pairs = [
            ("username", quote(self._username)),
            ("realm", quote(challenge.realm)),
            ("nonce", quote(challenge.nonce)),
            ("uri", quote(uri)),
            ("response", quote(response)),
            ("algorithm", challenge.algorithm),
        ]
        if cnonce is not None:
            pairs.append(("cnonce", quote(cnonce)))
        if qop is not None:
            pairs += [("qop", qop), ("nc", f"{self._count:08x}")]
        if challenge.opaque is not None:
            pairs.append(("opaque", quote(challenge.opaque)))
        return Credentials("Digest", tuple(pairs))


class NonceVerdict(Enum):
    """FRESH: go on. STALE: not ours any more, challenge anew with stale=true. REPLAY: nc was used before."""

    FRESH = "fresh"
    STALE = "stale"
    REPLAY = "replay"


class Nonces:
    """The server's nonces: when each was given out and the highest nc seen (RFC 7616 3.3, 5.5). Oldest go first."""

    def __init__(self, lifetime: float = 300.0, limit: int = 100_000) -> None:
        self._lifetime = lifetime
        self._limit = limit
        self._given: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._given)

    def give(self, nonce: str, now: float) -> str:
        """Remember a nonce that goes out in a challenge."""
        while len(self._given) >= self._limit:
            self._given.popitem(last=False)
        self._given[nonce] = (now, 0)
        return nonce

    def check(self, credentials: Credentials, now: float) -> NonceVerdict:
        """Use the nonce of verified credentials; without qop a nonce serves once. Raises ProtocolError ``sip.auth``."""
        held = self._given.get(credentials.nonce)
        if held is None or now - held[0] > self._lifetime:
            self._given.pop(credentials.nonce, None)
            return NonceVerdict.STALE
        since, highest = held
        count = credentials.nonce_count if credentials.qop else 1
        if count <= highest:
            return NonceVerdict.REPLAY
        self._given[credentials.nonce] = (since, count)
        return NonceVerdict.FRESH
