"""Security of signalling by agreement: RFC 3329 with the mechanism ``tls``, as TS 24.229 5.2.2 profiles it.

The media plane mechanisms of the same header fields are :mod:`imsalg.core.security`'s and compared leniently; those for
signalling are compared exactly, because a difference means that somebody on the way wants a weaker one. TLS is the only
mechanism that is offered; the others of RFC 3329 and ``ipsec-3gpp`` are understood and passed over.

A UE that registers in the open and names ``tls`` is told of ours in the 401 (TS 24.229) and comes back over TLS with
Security-Verify: in the open it gets 494 instead of a registration. Elsewhere, and where TLS is required, what comes in
the open is answered 494 or 421 (RFC 3329 2.3).
"""

import re
from collections.abc import Iterable

from imsalg.core.security import (
    OPTION_TAG_HEADERS,
    SEC_AGREE,
    has_option_tag,
    media_mechanisms,
    media_name,
    server_values,
)
from imsalg.core.sip_call import Answer
from imsalg.duty_settings import DutyRealm
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.headers import Headers
from imswire.sip.message import Request
from imswire.sip.values import SecMechanism, parse_sec_mechanisms

TLS = "tls"
OFFERED = "tls;q=0.2"
"""Our static list of mechanisms for signalling; it never depends on what a UE says (RFC 3329 2.3.1)."""
IPSEC = frozenset({"ipsec-3gpp", "ipsec-ike", "ipsec-man"})
_ANSWERED = re.compile(r"\bresponse\s*=\s*(?!\s|\"\"|,|$)", re.IGNORECASE)
"""In Authorization: a challenge is answered. An IMS UE names itself before there is one, with an empty response."""


class Agreement:
    """The agreement of one access realm; ``media`` are the media plane mechanisms that are announced beside."""

    def __init__(self, realm: DutyRealm, media: Iterable[str]) -> None:
        self.offers = realm.signalling != "none"
        self._required = realm.signalling == "tls-required"
        self._refuse_ipsec = realm.ipsec_3gpp == "refuse"
        self._own = (_normal(SecMechanism.parse(OFFERED)),) if self.offers else ()
        self.server = ", ".join(((OFFERED,) if self.offers else ()) + server_values(media))

    def register(self, request: Request, flow: Flow) -> bool:
        """Judge a REGISTER; raises :class:`Answer` where it is refused. True when the UE agreed to TLS and uses it."""
        headers = request.headers
        if not self.offers:
            if self._refuse_ipsec or "security-verify" in headers:
                self._without_offer(headers)
            return False
        named = {one.name.lower() for one in _signalling(headers, "Security-Client")}
        if flow.transport == TLS:
            return self._verified(headers) and TLS in named
        self._open(request)
        if "security-verify" in headers:
            if TLS in named or self._differs(headers):
                raise self.unused()
        elif TLS in named:
            if any(_ANSWERED.search(line) for line in headers.get_all("authorization")):
                raise self.unused()
        elif named and self._refuse_ipsec:
            raise self._challenge(494, "no mechanism in common for signalling")
        return False

    def announced_in_the_open(self, request: Request, flow: Flow) -> bool:
        """True for a REGISTER that :meth:`register` let by and whose UE is to come back over TLS."""
        if not self.offers or flow.transport == TLS or "security-client" not in request.headers:
            return False
        return any(one.name.lower() == TLS for one in _signalling(request.headers, "Security-Client"))

    def unused(self) -> Answer:
        """The answer to what comes in the open from a UE that knows TLS to be there for it."""
        return self._challenge(494, "TLS was agreed to and is not used")

    def request(self, request: Request, flow: Flow) -> None:
        """Judge any other request, where mechanisms are offered; raises :class:`Answer`."""
        if flow.transport == TLS:
            self._verified(request.headers)
            return
        self._open(request)
        headers = request.headers
        if "security-verify" in headers:  # our list, from a UE that knows nothing on it but media plane mechanisms
            if self._differs(headers):
                raise self._challenge(494, "Security-Verify differs from what was sent")
        elif request.method != "ACK" and any(has_option_tag(headers, name, SEC_AGREE) for name in OPTION_TAG_HEADERS):
            raise self._challenge(
                494, "an agreement is demanded and not used"
            )  # 2.3.1; not of an ACK: RFC 3261 8.2.2.3
        if "security-client" in headers and any(
            one.name.lower() == TLS for one in _signalling(headers, "Security-Client")
        ):
            raise self._challenge(494, "TLS is agreed upon and to be used")

    def hold_to(self, request: Request, flow: Flow) -> None:
        """A request outside a dialog of a UE that agreed to TLS comes over TLS and repeats our list (2.3.1)."""
        if flow.transport != TLS:
            raise self.unused()
        if "security-verify" not in request.headers:
            raise self._challenge(494, "Security-Verify is missing")

    def wanted_by(self, headers: Headers) -> bool:
        """True when a REGISTER with these header fields is told our list."""
        if "security-client" not in headers:
            return False
        try:
            mechanisms = parse_sec_mechanisms(headers.get_all("security-client"))
        except ProtocolError:
            return False
        if media_mechanisms(mechanisms):
            return bool(self.server)
        return self.offers and any(media_name(one) is None for one in mechanisms)

    # --- inside ---

    def _open(self, request: Request) -> None:
        """RFC 3329 2.3.2: what is unprotected is not served where protection is required."""
        if not self._required:
            return
        headers = request.headers
        if len(headers.values("via")) > 1:
            raise Answer(502, "not the first hop: the security agreement is with the UE itself")
        tagged = any(has_option_tag(headers, name, SEC_AGREE) for name in ("Require", "Proxy-Require", "Supported"))
        raise self._challenge(494 if tagged else 421, "signalling has to be secured with TLS")

    def _verified(self, headers: Headers) -> bool:
        """True when Security-Verify repeats our list; raises Answer 494 when it says something else."""
        if "security-verify" not in headers:
            return False
        if self._differs(headers):
            raise self._challenge(494, "Security-Verify differs from what was sent")
        return True

    def _differs(self, headers: Headers) -> bool:
        return tuple(map(_normal, _signalling(headers, "Security-Verify"))) != self._own

    def _without_offer(self, headers: Headers) -> None:
        """No mechanism for signalling is offered: none can be repeated, and by setting IPsec is not passed over."""
        try:
            offered = {one.name.lower() for one in _signalling(headers, "Security-Client")}
            repeated = self.server and _signalling(headers, "Security-Verify")
        except ProtocolError:
            return  # as if there were none: the UE registers without agreement
        if repeated:
            raise self._challenge(494, "Security-Verify differs from what was sent")
        if self._refuse_ipsec and offered & IPSEC:
            raise self._challenge(494, "IPsec is not offered here")

    def _challenge(self, status: int, why: str) -> Answer:
        if not self.server:  # nothing at all to agree upon
            return Answer(420, why, headers=(("Unsupported", SEC_AGREE),))
        return Answer(status, why, headers=(("Security-Server", self.server), ("Require", SEC_AGREE)))


def _signalling(headers: Headers, name: str) -> list[SecMechanism]:
    """The mechanisms for signalling in header field ``name``; raises ProtocolError for what cannot be read."""
    return [one for one in parse_sec_mechanisms(headers.get_all(name)) if media_name(one) is None]


def _normal(one: SecMechanism) -> tuple[str, frozenset[tuple[str, str]]]:
    """A mechanism for comparison (RFC 3329 2.3.1, RFC 3261 7.3.1): no case, parameters in any order."""
    return one.name.lower(), frozenset((name.lower(), (one.param(name) or "").lower()) for name, _ in one.params)
