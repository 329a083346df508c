"""A BFCP m-line (RFC 8856, RFC 4583): floor control roles in SDP, and TLS by who offered."""

from imslab.ue.endpoint import Endpoint, Surroundings
from imslab.ue.floor import FloorHost, FloorSession
from imslab.ue.lines import Line
from imslab.ue.options import FloorOptions, NotAcceptable
from imswire.bfcp.client import FloorClient
from imswire.bfcp.floor_values import Floor
from imswire.sdp.attributes import floor_control_roles
from imswire.sdp.model import Media, SessionDescription

_ROLES = {"client": ("c-only",), "server": ("s-only",), "either": ("c-only", "s-only")}
_OPPOSITE = {"c-only": "s-only", "s-only": "c-only"}


class BfcpLine(Line):
    """The TLS client is the offerer, whoever connects (RFC 8856 8)."""

    application = "BFCP"
    media = "application"

    def __init__(self, around: Surroundings, options: FloorOptions) -> None:
        super().__init__(around)
        self.options = options
        self.floor = FloorSession()
        self.role = ""
        self.floors: dict[int, tuple[str, ...]] = {}
        self.conference = self.user = 0
        self._host: FloorHost | None = options.host
        self._client: FloorClient | None = None
        self._used = False

    def accepts(self, offer: SessionDescription, theirs: Media) -> None:
        """A version other than 1 cannot be had over TCP (RFC 8856 5.5), and somebody has to be the server."""
        versions = (theirs.get("bfcpver") or "1").split()
        if "1" not in versions:
            raise NotAcceptable(f"BFCP versions {versions}")
        if not self.role:
            self.role = self._choose(_roles(theirs))

    def understand(self, theirs: Media, *, we_offered: bool) -> None:
        """Settle the roles, and as a client learn who we are from the server."""
        if we_offered:
            answered = _roles(theirs) if theirs.has("floorctrl") else ("s-only",)
            if len(answered) != 1:
                raise NotAcceptable(f"floorctrl {' '.join(answered)} in an answer")
            self.role = _OPPOSITE[answered[0]]
        if self.role == "c-only":
            self.conference = _number(theirs, "confid")
            self.user = _number(theirs, "userid")
            self.floors = dict(map(_floor, theirs.get_all("floorid")))

    def fail(self, reason: str) -> None:
        """No connection comes about."""
        self.floor.fail(reason)

    def _choose(self, offered: tuple[str, ...]) -> str:
        """Our role in an answer: what we prefer, if the offerer can take the other one."""
        for mine in _ROLES[self.options.role]:
            if _OPPOSITE[mine] in offered:
                return mine
        raise NotAcceptable(f"floorctrl {' '.join(offered)} offered, we are {self.options.role}")

    def _tls_server(self, *, tcp_server: bool, we_offered: bool) -> bool:
        return not we_offered

    def _attributes(self, media: Media, end: Endpoint, *, renewed: bool, offer: Media | None) -> None:
        old = self.options.form == "rfc4583"
        media.add_attribute("connection", "new" if renewed else "existing")
        roles = (self.role,) if self.role else _ROLES[self.options.role]
        # An offerer that knows no roles is answered without them (RFC 8856 10.2).
        if offer is None or offer.has("floorctrl"):
            media.add_attribute("floorctrl", "c-s" if old and len(roles) > 1 else " ".join(roles))
        if "s-only" in roles:
            host = self._host = self._host or FloorHost(floors=[Floor(one) for one in self.options.floors])
            self.user = self.user or host.new_user()
            media.add_attribute("confid", str(host.conference))
            media.add_attribute("userid", str(self.user))
            for floor, stream in zip(host.floors, self.options.streams, strict=False):
                media.add_attribute("floorid", f"{floor.id} {'m-stream' if old else 'mstrm'}:{stream}")
        if not old and (offer is None or offer.has("bfcpver")):
            media.add_attribute("bfcpver", "1")

    def _new_session(self, *, we_connect: bool) -> None:
        if self._used:
            self.floor = FloorSession()
        self._used = True
        if self.role == "c-only":
            self._client = self._client or FloorClient(self.conference, self.user)
            self.floor.become(client=self._client)
        elif self._host is not None:
            self.floor.become(host=self._host, user=self.user)
        if self.now is not None:
            self.now.on_events = self.floor.events

    def _bind(self, end: Endpoint) -> None:
        if end.link is not None:
            self.floor.start(end.link)

    def _close_old_session(self) -> None:
        # The requests stay while the connection is replaced (RFC 8855 6.1).
        self.floor.close(for_good=False)

    def _close_session(self) -> None:
        self.floor.close()


def _roles(media: Media) -> tuple[str, ...]:
    """The roles in ``a=floorctrl``; without it the offerer is the client (RFC 8856 5.1)."""
    roles = floor_control_roles(media) or ("c-only",)
    if "c-s" in roles:
        return ("c-only", "s-only")
    known = tuple(role for role in roles if role in _OPPOSITE)
    if not known:
        raise NotAcceptable(f"floorctrl {' '.join(roles)}")
    return known


def _number(media: Media, name: str) -> int:
    text = (media.get(name) or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise NotAcceptable(f"the floor control server gives no {name}")
    return int(text)


def _floor(value: str) -> tuple[int, tuple[str, ...]]:
    """``1 mstrm:10 11``, or with the ``m-stream`` of RFC 4583's example (RFC 8856 5.4)."""
    number, _, streams = value.strip().partition(" ")
    kind, _, labels = streams.partition(":")
    if not (number.isascii() and number.isdigit()) or (streams and kind not in ("mstrm", "m-stream")):
        raise NotAcceptable(f"floorid {value[:80]!r}")
    return int(number), tuple(labels.split())
