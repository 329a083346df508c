"""What a UE's response must repeat of the request: the way back and the route set (TS 24.229 5.2.6.4, RFC 3261 12.1.1).

A UE decides neither where a response goes nor which nodes the other end's requests pass. The text of the request as it
was sent on stands for whatever the UE made of it.
"""

from imsalg.core.sip_call import Forward
from imswire.sip.message import DIALOG_METHODS, Response


def as_sent(forward: Forward, response: Response) -> None:
    """Put Via and Record-Route of a UE's response right, our own Via being off."""
    sent = forward.outgoing.headers
    if response.headers.get_all("via") != sent.get_all("via"):
        _replace(response, "Via", sent.get_all("via"))
    routes = sent.get_all("record-route")
    if response.headers.get_all("record-route") != routes and _has_routes(forward, response):
        _replace(response, "Record-Route", routes)


def _has_routes(forward: Forward, response: Response) -> bool:
    """Whether the route set belongs into this response; where it only may stand, it is not put in."""
    if "record-route" in response.headers:
        return True
    return 101 <= response.status < 300 and forward.received.method in DIALOG_METHODS and not forward.leg


def _replace(response: Response, name: str, lines: list[str]) -> None:
    headers = response.headers
    headers.remove(name)
    for line in reversed(lines):
        headers.prepend(name, line)
