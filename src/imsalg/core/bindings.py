"""Bindings of served UEs: what a successful REGISTER leaves at the P-CSCF (TS 24.229 5.2.2).

A binding is keyed by address of record and contact address. Requests of a UE find theirs by the flow they came over:
address and port over UDP, the connection otherwise. What comes over another flow has nothing but its Contact to show,
which anybody may write; :data:`Rule` says when that is enough. Requests to a UE find it by the flow in our Path token.
"""

import heapq
import ipaddress
import itertools
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from imsalg.core.media_events import AccessProfile
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.uri import SipUri, unescaped
from imswire.sip.values import NameAddr

SEPARATORS = str.maketrans("", "", "-.()")
"""The visual separators of telephone numbers (RFC 3966 5.1.1)."""
type Rule = Literal["flow", "own-host", "host"]
"""Whose request is it that comes over a flow which nobody registered, with the Contact of a binding? ``flow``:
nobody's. ``own-host``: that of a UE whose Contact shows the very address which the request comes from, unless another
user has registered from there. ``host``: that of whoever registered from this address, also behind a NAT."""


@lru_cache(maxsize=1024)
def contact_key(uri: str) -> str:
    """What identifies a contact here: user, host, port and transport of its URI (RFC 3261 19.1.4 without the rest)."""
    try:
        parsed = SipUri.parse(uri)
    except ProtocolError:
        return uri
    sos = ";sos" if parsed.param("sos") is not None else ""  # TS 24.229 5.1.6.2: a registration of its own
    return f"{unescaped(parsed.user or '')}@{parsed.hostport.lower()};{parsed.transport}{sos}"


def identity_key(uri: str) -> str:
    """A public user identity made comparable: scheme and host without case, no port and parameters.

    A number is the same however it is grouped for the eye (RFC 3966 4).
    """
    try:
        parsed = SipUri.parse(uri)
    except ProtocolError:
        plain = uri.partition(";")[0].lower()
        return plain.translate(SEPARATORS) if plain.startswith("tel:") else plain
    return f"{parsed.scheme}:{unescaped(parsed.user or '')}@{parsed.host.lower()}"


def user_of(uri: str) -> str:
    """The user part of an identity, for traces and logs; the whole text when there is none."""
    user, at, _ = uri.partition(":")[2].partition("@")
    return user if at else uri


class Binding:
    """One registered contact. ``expires_at`` is on the engine's clock; ``path_token`` is the user part of its Path."""

    __slots__ = (
        "_identities",
        "agreed",
        "aor",
        "associated",
        "contact",
        "emergency",
        "expires_at",
        "flow",
        "flow_name",
        "key",
        "path_token",
        "profile",
        "secured",
        "service_route",
        "user",
    )

    def __init__(
        self,
        aor: str,
        contact: str,
        flow: Flow,
        path_token: str,
        expires_at: float,
        *,
        service_route: tuple[str, ...] = (),
        associated: tuple[str, ...] = (),
        agreed: frozenset[str] = frozenset(),
        core_realm: str = "core",
        secured: bool = False,
        emergency: bool = False,
        flow_name: str = "",
    ) -> None:
        self.aor = aor
        self.contact = contact
        self.key = (aor, contact_key(contact))
        self.flow: Flow | None = flow
        self.path_token = path_token
        self.expires_at = expires_at
        self.service_route = service_route
        self.associated = associated or (f"<{aor}>",)
        self.agreed = agreed
        self.secured = secured  # the UE agreed to secure its signalling (RFC 3329)
        self.emergency = emergency  # registered for emergency calls alone (TS 24.229 5.2.10)
        self.flow_name = flow_name  # instance and reg-id of a UE that uses outbound (RFC 5626 6)
        self.user = user_of(aor)
        self.profile = AccessProfile(flow.realm, core_realm, agreed, self.user)
        self._identities = {identity_key(NameAddr.parse(value).uri): value for value in self.associated}

    @property
    def direct(self) -> bool:
        """The UE has the address that its requests come from: no NAT stands between, behind which others may be."""
        return self.flow is not None and _same_host(self.contact, self.flow.remote[0])

    @property
    def default_identity(self) -> str:
        """The first value of P-Associated-URI (TS 24.229 5.2.6.3.2A)."""
        return self.associated[0]

    def forget_identity(self, uri: str) -> bool:
        """The network no longer has ``uri`` registered; the last identity stays. True when there was another one."""
        key = identity_key(uri)
        if key not in self._identities or len(self.associated) < 2:
            return False
        gone = self._identities.pop(key)
        self.associated = tuple(value for value in self.associated if value != gone)
        return True

    def identity(self, uri: str) -> str | None:
        """The registered value equal to ``uri``, or None: what a UE asks for in P-Preferred-Identity."""
        return self._identities.get(identity_key(uri))


class Registrar:
    """All bindings, by contact and by flow, with their expiry. ``limit`` bounds them, ``per_user`` those of one AOR."""

    def __init__(self, limit: int, per_user: int) -> None:
        self._limit = limit
        self._per_user = per_user
        self._by_key: dict[tuple[str, str], Binding] = {}
        self._by_aor: dict[str, dict[str, Binding]] = {}
        self._by_flow: dict[Flow, dict[tuple[str, str], Binding]] = {}
        self._by_contact: dict[str, dict[tuple[str, str], Binding]] = {}
        self._by_host: dict[tuple[str, str], dict[tuple[str, str], Binding]] = {}
        self._heap: list[tuple[float, int, Binding]] = []
        self._order = itertools.count()
        self.changed: set[tuple[str, str]] | None = None
        """Keys of bindings that came, changed or went, for whoever writes them down; None when nobody does."""

    def limits(self, limit: int, per_user: int) -> None:
        """Other bounds from now on; nothing that is there goes."""
        self._limit = limit
        self._per_user = per_user

    def __len__(self) -> int:
        return len(self._by_key)

    def by_key(self, key: tuple[str, str]) -> Binding | None:
        """The binding with that :attr:`Binding.key`."""
        return self._by_key.get(key)

    def get(self, aor: str, contact: str) -> Binding | None:
        """The binding of that address of record and contact URI."""
        return self._by_key.get((aor, contact_key(contact)))

    def of(self, aor: str) -> list[Binding]:
        """All bindings of an address of record."""
        return list(self._by_aor.get(aor, {}).values())

    def bindings(self) -> Iterable[Binding]:
        """All bindings, oldest first."""
        return self._by_key.values()

    def has_room(self, aor: str, contact: str, *, emergency: bool = False) -> bool:
        """True when a REGISTER for that contact can be stored; emergency registrations have as much room again."""
        if self.get(aor, contact) is not None:
            return True
        share = 2 if emergency else 1
        return len(self._by_key) < share * self._limit and len(self._by_aor.get(aor, ())) < share * self._per_user

    def put(self, binding: Binding) -> None:
        """Store or replace a binding; raises LimitExceeded ``registration.full``."""
        if not self.has_room(binding.aor, binding.contact, emergency=binding.emergency):
            raise LimitExceeded("registration.full", f"no room for another contact of {binding.aor}")
        old = self._by_key.get(binding.key)
        if old is not None:
            self._unlink(old)
        self._by_key[binding.key] = binding
        self.mark(binding)
        self._by_aor.setdefault(binding.aor, {})[binding.key[1]] = binding
        self._by_contact.setdefault(binding.key[1], {})[binding.key] = binding
        if binding.flow is not None:
            self._by_flow.setdefault(binding.flow, {})[binding.key] = binding
            self._by_host.setdefault(_host(binding.flow), {})[binding.key] = binding
        heapq.heappush(self._heap, (binding.expires_at, next(self._order), binding))
        if len(self._heap) > 2 * len(self._by_key) + 64:  # entries of replaced bindings must not pile up
            self._heap = [entry for entry in self._heap if self._by_key.get(entry[2].key) is entry[2]]
            heapq.heapify(self._heap)

    def shorten(self, binding: Binding, expires_at: float) -> None:
        """Let a binding end at ``expires_at`` if that is sooner."""
        if self._by_key.get(binding.key) is binding and expires_at < binding.expires_at:
            binding.expires_at = expires_at
            self.mark(binding)
            heapq.heappush(self._heap, (expires_at, next(self._order), binding))

    def remove(self, binding: Binding) -> None:
        """Forget a binding (de-registration, expiry)."""
        if self._by_key.get(binding.key) is binding:
            self._unlink(binding)

    def mark(self, binding: Binding) -> None:
        """Something of the binding changed that has to outlive the process."""
        if self.changed is not None:
            self.changed.add(binding.key)

    def _unlink(self, binding: Binding) -> None:
        del self._by_key[binding.key]
        self.mark(binding)
        _drop(self._by_aor, binding.aor, binding.key[1])
        _drop(self._by_contact, binding.key[1], binding.key)
        if binding.flow is not None:
            _drop(self._by_flow, binding.flow, binding.key)
            _drop(self._by_host, _host(binding.flow), binding.key)

    def on_flow(self, flow: Flow) -> list[Binding]:
        """The bindings whose UE is reached over ``flow``."""
        return list(self._by_flow.get(flow, {}).values())

    def flow_closed(self, flow: Flow) -> list[Binding]:
        """The connection is gone: its bindings stay registered but cannot be reached until they register anew."""
        lost = list(self._by_flow.pop(flow, {}).values())
        for binding in lost:
            _drop(self._by_host, _host(flow), binding.key)
            binding.flow = None
            self.mark(binding)
        return lost

    def sender(
        self, flow: Flow, contact: str | None, identities: Iterable[str], rule: Rule = "own-host"
    ) -> Binding | None:
        """The binding on whose behalf a request came over ``flow``.

        Several on one flow: that of the request's ``contact``; where that leaves several users, the one who owns the
        first of ``identities`` (P-Preferred-Identity, From) that any of them owns, else nobody's. None on the flow: the
        binding of ``contact``, as far as ``rule`` lets it (a UE that registered over UDP sends what is large over TCP,
        RFC 3261 18.1.1; some open a connection for each request). What was registered over TLS comes over TLS.
        """
        on_flow = self._by_flow.get(flow)
        key = contact_key(contact) if contact else ""
        if on_flow:
            candidates = list(on_flow.values())
            return _of_one_user([one for one in candidates if one.key[1] == key] or candidates, identities)
        if rule == "flow":
            return None
        found: list[Binding] = []
        for binding in self._by_contact.get(key, {}).values():
            known = binding.flow
            if known is None or known.realm != flow.realm or known.remote[0] != flow.remote[0]:
                continue
            if known.transport == "tls" and flow.transport != "tls" and not binding.secured:
                continue  # whoever agreed upon TLS is held to it by that agreement, and told so
            if rule == "host" or (binding.direct and not self._shared(binding, known)):
                found.append(binding)
        return _of_one_user(found, identities) if found else None

    def _shared(self, binding: Binding, flow: Flow) -> bool:
        """Another user has registered from the same host."""
        here = self._by_host.get(_host(flow), {})
        return any(other.aor != binding.aor and binding.identity(other.aor) is None for other in here.values())

    def receiver(self, flow: Flow, request_uri: str) -> Binding | None:
        """The binding that a request over our Path token's ``flow`` is for: its contact is the Request-URI."""
        on_flow = self._by_flow.get(flow)
        if not on_flow:
            return None
        key = contact_key(request_uri)
        for binding in on_flow.values():
            if binding.key[1] == key:
                return binding
        return next(iter(on_flow.values())) if len(on_flow) == 1 else None

    def with_contact(self, request_uri: str) -> Binding | None:
        """The binding with that contact, for a core that does not use Path; None when there are none or several."""
        found = self._by_contact.get(contact_key(request_uri), {})
        return next(iter(found.values())) if len(found) == 1 else None

    def expire(self, now: float) -> list[Binding]:
        """Forget and return the bindings whose time is over."""
        heap, gone = self._heap, list[Binding]()
        while heap and heap[0][0] <= now:
            binding = heapq.heappop(heap)[2]
            if self._by_key.get(binding.key) is binding:
                self._unlink(binding)
                gone.append(binding)
        return gone

    def next_timer(self) -> float | None:
        """When the next binding expires (or an entry of a replaced one, which costs nothing)."""
        return self._heap[0][0] if self._heap else None


def _of_one_user(candidates: list[Binding], identities: Iterable[str]) -> Binding | None:
    """The binding of ``candidates`` that is meant: of their only user, or of the one who has one of ``identities``."""
    candidates.sort(key=lambda one: one.emergency)  # one for emergencies alone says nothing of the others
    if all(one.aor == candidates[0].aor for one in candidates):
        return candidates[0]
    for uri in identities:
        for binding in candidates:
            if binding.identity(uri) is not None:
                return binding
    return None


def _host(flow: Flow) -> tuple[str, str]:
    return flow.realm, flow.remote[0]


def _same_host(uri: str, address: str) -> bool:
    """The host of a SIP URI is that IP address."""
    try:
        host = SipUri.parse(uri).host
        return ipaddress.ip_address(host.strip("[]")) == ipaddress.ip_address(address)
    except (ProtocolError, ValueError):
        return False


def _drop[A, B, C](index: dict[A, dict[B, C]], outer: A, inner: B) -> None:
    entries = index[outer]
    del entries[inner]
    if not entries:
        del index[outer]
