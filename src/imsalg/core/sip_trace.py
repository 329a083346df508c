"""The ``sip`` trace line: what the ladder shows of a SIP message (docs/tracing.md)."""

from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.uri import bracketed

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
        "sdp": sdp_summary(message.body) if message.body and message.content_type == "application/sdp" else [],
    }


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
