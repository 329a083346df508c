"""Emergency calls and registrations (TS 24.229 5.2.10, RFC 5031).

A call to ``urn:service:sos`` or one of its sub-services, or to a number that the settings name, has a way of its own:
to the E-CSCF, past the Service-Route. Nothing of this node's own making stands in its way: a full table of calls (such
calls have as much room again), a node that goes out of service, or a UE that is not registered, unless the settings
say so.
"""

from imsalg.core.bindings import SEPARATORS, Binding
from imsalg.core.routing import Network, Way
from imsalg.core.sip_call import Answer
from imsalg.settings import Settings
from imswire.base import ProtocolError
from imswire.sip.message import Request
from imswire.sip.uri import SipUri, unescaped

SOS = "urn:service:sos"
BODY_TYPE = "application/3gpp-ims+xml"
BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n'
    b'<ims-3gpp version="1"><alternative-service><type>emergency</type>'
    b"<reason>emergency calls are not taken here</reason>%s</alternative-service></ims-3gpp>\r\n"
)
ACTION = b"<action>emergency-registration</action>"


def is_sos(uri: str) -> bool:
    """True for the emergency service and its sub-services (RFC 5031 4.2)."""
    return uri[:15].lower() == SOS and uri[15:16] in ("", ".", ";")


def is_callback(request: Request) -> bool:
    """True for a call back from an emergency centre (RFC 7090 5)."""
    return (request.headers.get("priority") or "").strip().lower() == "psap-callback"


def is_emergency_contact(request: Request) -> bool:
    """True for an emergency registration: a Contact with the URI parameter ``sos`` (TS 24.229 5.1.6.2)."""
    if request.contact_star or not any("sos" in line.lower() for line in request.headers.get_all("contact")):
        return False
    return any(is_emergency_uri(contact.uri) for contact in request.contacts)


def is_emergency_uri(uri: str) -> bool:
    """True for a contact address with the URI parameter ``sos``."""
    if ";sos" not in uri.lower():
        return False
    try:
        return SipUri.parse(uri).param("sos") is not None
    except ProtocolError:
        return False


class Emergency:
    """The rules of each access realm, computed once."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self._settings = settings
        self._network = network
        self._numbers = {name: frozenset(realm.emergency_numbers) for name, realm in settings.realm.items()}
        self._name = settings.imsalg.name

    def asked(self, request: Request, realm: str) -> bool:
        """True for an emergency call or another initial request to the emergency service."""
        uri = request.uri
        if uri[:4].lower() == "urn:":
            return is_sos(uri)
        numbers = self._numbers[realm]
        return bool(numbers) and dialled(uri) in numbers

    def route(self, outgoing: Request, realm: str, core: str, binding: Binding | None) -> Way:
        """Make an emergency request ready for the E-CSCF and give the way there; raises :class:`Answer`.

        ``binding`` is the UE's. One that has no emergency registration is told that it may make one.
        """
        rules = self._settings.realm[realm]
        may_register = binding is not None and not binding.emergency
        if binding is None and not rules.emergency_unregistered:
            raise Answer(403, "emergency calls of UEs that are not registered are not taken here")
        if rules.emergency == "refuse":
            raise Answer(403, "emergency calls are not taken here")
        hop = self._settings.realm[core].emergency_next_hop
        if rules.emergency == "alternative" or not hop:
            raise self.alternative(may_register=may_register)
        if not is_sos(outgoing.uri):
            outgoing.uri = SOS  # TS 24.229 5.2.10.2: numbers become the service
        headers = outgoing.headers
        headers.remove("route")
        headers.add("Route", f"<{hop}>" if ";lr" in hop.lower() else f"<{hop};lr>")
        if rules.emergency_priority:
            headers.set("Resource-Priority", rules.emergency_priority)
        return self._network.resolve(hop, core)

    def alternative(self, *, may_register: bool) -> Answer:
        """380 with the body of TS 24.229 7.6: the UE is to try another network, or to register for emergencies."""
        headers = (("Content-Type", BODY_TYPE), ("P-Asserted-Identity", f"<sip:{self._name}>"))
        return Answer(380, "", headers=headers, body=BODY % (ACTION if may_register else b""))

    def registrar(self, core: str) -> Way:
        """Where emergency registrations go."""
        hop = self._settings.realm[core].emergency_register_next_hop
        return self._network.resolve(hop, core) if hop else self._network.next_hop(core)


def dialled(uri: str) -> str:
    """The number or user part of a tel or SIP URI, without escapes, password and, in a number, visual separators.

    A SIP URI holds a number where it says so (RFC 3261 19.1.6); elsewhere "1-1-2" is a name.
    """
    scheme, _, rest = uri.partition(":")
    number = scheme.lower() == "tel"
    user, at, place = rest.partition("@")
    if at and scheme.lower() in ("sip", "sips"):
        rest = user.partition(":")[0]
        number = ";user=phone;" in f"{place.lower()};"
    user = unescaped(rest.partition(";")[0])
    return user.translate(SEPARATORS) if number else user
