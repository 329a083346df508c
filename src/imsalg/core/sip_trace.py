"""The ``sip`` trace line: what the ladder shows of a SIP message (docs/tracing.md)."""

from collections.abc import Iterable

from imsalg.core.media_events import Trace
from imsalg.core.sdp_body import sdp_of
from imsalg.core.sip_call import Call
from imswire.base import ProtocolError
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.uri import bracketed

_AGREEMENT = ("Security-Client", "Security-Server", "Security-Verify")
_SHOWN = ("3ge2ae:", "setup:", "fingerprint:", "path:", "msrp-cema", "connection:", "key-mgmt:", "crypto:")


def trace_fields(direction: str, side: str, flow: Flow, message: Request | Response, user: str) -> dict[str, object]:
    """The fields of one line: ``direction`` in or out, ``side`` access or core."""
    headers = message.headers
    if isinstance(message, Request):
        summary = f"{message.method} {message.uri}"
    else:
        summary = f"{message.status} {message.reason}"
    return {
        "dir": direction,
        "realm": side,
        "peer": f"{bracketed(flow.remote[0])}:{flow.remote[1]}",
        "user": user,
        "call_id": headers.get("call-id") or "",
        "cseq": headers.get("cseq") or "",
        "summary": summary,
        "sdp": [*agreement(message), *_sdp(message)],
    }


def complete(lines: Iterable[object], user: str, call: Call | None) -> None:
    """Fill in what is known only after a message was handled; it holds for all that was traced with it."""
    for line in lines:
        if type(line) is not Trace or line.kind != "sip":
            continue
        if user and line.fields.get("user") == "":
            line.fields["user"] = user
        if call is not None:
            line.fields.setdefault("call", call.key)


def agreement(message: Request | Response) -> list[str]:
    """What a registration says of the security agreement: ``Security-Client: msrp-tls;mediasec``."""
    cseq = message.headers.get("cseq") or ""
    if not cseq.endswith("REGISTER"):
        return []
    return [f"{name}: {value}" for name in _AGREEMENT for value in message.headers.get_all(name)]


def _sdp(message: Request | Response) -> list[str]:
    try:
        body = sdp_of(message)
    except ProtocolError:
        return []
    return sdp_summary(body) if body is not None else []


def sdp_summary(body: bytes) -> list[str]:
    """The lines of an SDP body that media security is about, short; broken SDP gives what can be seen."""
    session = ""
    sections: list[tuple[str, list[str], list[str]]] = []  # m-line, its own c=, attributes shown
    for line in body.decode("utf-8", "replace").splitlines():
        kind, _, value = line.partition("=")
        if kind == "m":
            sections.append((" ".join(value.split()[1:3]), [], []))
        elif kind == "c":
            address = " ".join(value.split()[1:])
            if sections:
                sections[-1][1].append(address)
            else:
                session = address
        elif kind == "a" and sections and value.startswith(_SHOWN):
            sections[-1][2].append(_shorten(value))
    shown: list[str] = []
    for media, own, attributes in sections:
        shown += [f"c={own[0] if own else session} m={media}", *attributes]
    return shown


def _shorten(attribute: str) -> str:
    name, _, value = attribute.partition(":")
    if name == "fingerprint":
        algorithm, _, octets = value.strip().partition(" ")
        return f"fingerprint:{algorithm} {octets[:5]}.."
    if name == "path":
        return f"path:{value.strip().partition(':')[0]}"
    return attribute.strip() if len(attribute) <= 40 else attribute[:38] + ".."
