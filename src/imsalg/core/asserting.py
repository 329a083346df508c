"""What the P-CSCF asserts on a UE's behalf: identity, charging vector, access network (TS 24.229 5.2.6.3, 5.2.6.4).

The header policy has taken out what the UE may not say; here this node's own values go in. A vector's icid-value is the
same in all messages of a dialog: a call keeps it, other dialogs have it derived from their Call-ID, so that nothing
needs to be remembered for them.
"""

from hashlib import blake2b

from imsalg.core.bindings import Binding
from imsalg.core.header_policy import Trust, wants_privacy
from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.values import NameAddr, parse_params

ICID_OCTETS = 12
VECTOR = "P-Charging-Vector"


class Asserting:
    """Settings turned into header values once; ``key`` makes icid-values of Call-IDs that nobody else can foresee."""

    def __init__(self, settings: Settings, key: bytes) -> None:
        self._key = key[:64]
        self._make = settings.charging.vector
        self._place = f";icid-generated-at={settings.imsalg.name}"
        ioi = settings.charging.ioi
        self._orig = f";orig-ioi={ioi}" if ioi else ""
        self._term = f";term-ioi={ioi}" if ioi else ""
        self.trust = {
            name: Trust(
                (Trust.UE if realm.trusted else 0)
                | (Trust.CORE if settings.realm[settings.core_of(name)].trusted in (None, True) else 0)
            )
            for name, realm in settings.realm.items()
            if realm.kind == "access"
        }
        self._network = {
            name: f"{realm.access_network_info};network-provided" if realm.access_network_info else ""
            for name, realm in settings.realm.items()
        }

    # --- charging ---

    def vector(self, icid: str) -> str:
        """The vector that begins here with that icid-value; "" when none are made."""
        return f"icid-value={icid}{self._place}" if self._make else ""

    def vector_of_dialog(self, call_id: str) -> str:
        """The vector of a dialog that nothing is remembered of."""
        octets = call_id.encode("utf-8", "surrogateescape")
        return self.vector(blake2b(octets, digest_size=ICID_OCTETS, key=self._key).hexdigest()) if self._make else ""

    @staticmethod
    def vector_from(request: Request) -> str:
        """What to keep of the core's vector (icid-value and where it was made); "" without one or for a bad one."""
        text = request.headers.get(VECTOR)
        if text is None:
            return ""
        try:
            params = parse_params(";" + text)
        except ProtocolError:
            return ""
        kept = [f"{name}={value}" for name, value in params if name.lower() in _KEPT and value is not None]
        return ";".join(kept) if any(one.lower().startswith("icid-value=") for one in kept) else ""

    # --- into messages towards the core ---

    def request(self, outgoing: Request, realm: str, *, identity: str | None = None, vector: str = "") -> None:
        """Put in what goes with a request of a UE in access realm ``realm``."""
        headers = outgoing.headers
        core_trusted = bool(self.trust[realm] & Trust.CORE)
        if identity is not None and (core_trusted or not wants_privacy(headers, "id")):
            headers.add("P-Asserted-Identity", identity)
        if not core_trusted:
            return
        if vector:
            headers.add(VECTOR, vector + self._orig)
        if self._network[realm]:
            headers.add("P-Access-Network-Info", self._network[realm])

    def response(self, response: Response, trust: Trust, *, identity: str | None, vector: str) -> None:
        """Put in what goes with a 1xx or 2xx of a UE."""
        headers = response.headers
        core_trusted = bool(trust & Trust.CORE)
        if trust & Trust.UE and "p-asserted-identity" in headers:
            identity = None  # it may assert for itself
        if identity is not None and (core_trusted or not wants_privacy(headers, "id")):
            headers.set("P-Asserted-Identity", identity)
        if core_trusted and vector:
            headers.add(VECTOR, vector + self._term)


_KEPT = frozenset({"icid-value", "icid-generated-at"})


def preferred(binding: Binding, headers: Headers) -> str | None:
    """The registered value that P-Preferred-Identity asks for, if it asks for one (TS 24.229 5.2.6.3)."""
    if "p-preferred-identity" not in headers:
        return None
    for value in headers.values("p-preferred-identity"):
        if (found := binding.identity(NameAddr.parse(value).uri)) is not None:
            return found
    return None


def asserted(binding: Binding, headers: Headers) -> str:
    """The P-Asserted-Identity of a request: the preferred identity when it is registered, else the default one."""
    return preferred(binding, headers) or binding.default_identity


def answering(called: Binding | None, headers: Headers, known: str | None) -> str | None:
    """What a called UE is asserted to be: its preferred identity if registered, else the one that was called."""
    if called is None:
        return known
    try:
        return preferred(called, headers) or known
    except ProtocolError:  # a wish that cannot be read is none
        return known
