"""What an edge proxy does for UEs that keep their flows open themselves (RFC 5626 5.1, 5.4, 6)."""

from imsalg.core.bindings import Binding, Registrar, contact_key
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.values import NameAddr

UDP_TIMER = 25
"""Seconds: NATs forget UDP soon (RFC 5626 4.4.2 has 24 to 29 s where no Flow-Timer says otherwise)."""


def path_params(request: Request) -> str:
    """What our Path URI adds for a REGISTER with ``reg-id``: ``;ob``, when the UE is the node before us (5.1)."""
    if "reg-id" not in (request.headers.get("contact") or "") or not request.has_option("Supported", "outbound"):
        return ""
    return ";ob" if len(request.headers.values("via")) == 1 else ""


def flow_timer(response: Response, flow: Flow, seconds: int) -> None:
    """Tell the UE how often to send keep-alives, when the registrar uses outbound (5.4); 0 says nothing."""
    if seconds and response.has_option("Require", "outbound"):
        response.headers.set("Flow-Timer", str(seconds if flow.reliable else min(seconds, UDP_TIMER)))


def flow_name(contact: NameAddr, response: Response) -> str:
    """What identifies a flow of a UE to its registrar: instance and reg-id (6); "" where outbound is not used."""
    instance, number = contact.param("+sip.instance"), contact.param("reg-id")
    if not instance or not number or not response.has_option("Require", "outbound"):
        return ""
    return f"{number} {instance}"


def same_ue(contact: NameAddr, binding: Binding) -> bool:
    """True when a Contact of the binding's user is of the same UE: its address whatever the transport, or instance."""
    if _address(contact_key(contact.uri)) == _address(binding.key[1]):
        return True
    instance = contact.param("+sip.instance")
    return bool(instance) and binding.flow_name.partition(" ")[2] == instance


def _address(key: str) -> tuple[str, str]:
    """User and host with port of a contact's key; a user part may have semicolons of its own."""
    user, _, place = key.rpartition("@")
    return user, place.partition(";")[0]


def replaced(registrar: Registrar, binding: Binding) -> list[Binding]:
    """The bindings that a registration of the same instance and reg-id takes the place of, whatever their Contact."""
    if not binding.flow_name:
        return []
    named = [one for one in registrar.of(binding.aor) if one is not binding and one.flow_name == binding.flow_name]
    return [one for one in named if one.emergency is binding.emergency]  # an emergency registration stands beside
