"""One m-line of a call over TCP or TLS: what it says in session descriptions and how it gets its connection."""

import secrets
from pathlib import Path

from imskit.clock import SystemIds
from imskit.tls import Identity
from imslab.ue.chat import ChatSession
from imslab.ue.endpoint import Endpoint, Surroundings
from imslab.ue.options import DISCARD, CemaNeeded, NotAcceptable, Reoffer
from imswire.msrp.session import MsrpSession
from imswire.sdp.attributes import (
    E2ae,
    MsrpPath,
    Setup,
    connection_of,
    direction_of,
    e2ae_of,
    fingerprints,
    has_cema,
    path_of,
    setup_of,
    transport_of,
)
from imswire.sdp.model import Media, SessionDescription
from imswire.sdp.offer_answer import Connector, answer_setup, connector

_MIRROR = {"sendonly": "recvonly", "recvonly": "sendonly"}


class Line:
    """What MSRP and BFCP lines have in common. ``now`` is the connection in use, ``next`` one that was offered or
    answered and takes its place when offer and answer are complete.

    ``theirs`` is what the peer said last, ``offered_e2ae`` its ``a=3ge2ae``.
    """

    application = ""
    media = ""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.now: Endpoint | None = None
        self.next: Endpoint | None = None
        self.theirs: Media | None = None
        self.remote: SessionDescription | None = None
        self.offered_e2ae: E2ae | None = None
        self.direction = ""
        self.removed = False

    # --- session descriptions ---

    @property
    def port(self) -> int:
        """The local port of the connection that was described last; a socket is bound when it is asked for."""
        return (self.next or self.now or self._prepare()).port

    @property
    def secure(self) -> bool:
        """Under TLS."""
        end = self.next or self.now
        return end.secure if end is not None else self.around.options.secure

    def offer(self, sdp: SessionDescription, change: Reoffer | None = None, *, renew: bool = False) -> Media:
        """Append our m-section; ``renew`` or a line without connection gets a new one."""
        if renew or (self.now is None and self.next is None):
            end = self.next or self._prepare(None if change is None else change.identity)
            if self.now is not None:
                self._fresh_session()
            end.secure = self.around.options.secure
            end.setup = self.around.options.offer_setup
            end.tls_server = self._tls_server(tcp_server=True, we_offered=True)
            if end.setup in (Setup.ACTPASS, Setup.PASSIVE):
                end.listen()
        if change is not None and change.direction:
            self.direction = "" if change.direction == "sendrecv" else change.direction
        e2ae = self.secure and self.around.options.e2ae
        return self._write(sdp, "TCP/TLS/" if self.secure else "TCP/", e2ae=e2ae, renewed=self.next is not None)

    def answer(self, sdp: SessionDescription, offer: SessionDescription, theirs: Media) -> Media:
        """Append our answer to their m-section; raises :class:`NotAcceptable`."""
        self.accepts(offer, theirs)
        renewed = self.now is None or self._wants_new(offer, theirs)
        self.offered_e2ae = e2ae_of(theirs)
        if renewed:
            if self.now is not None:
                self._fresh_session()
            end = self.next or self._prepare()
            transport = transport_of(theirs)
            end.secure = transport is not None and transport.tls
            # Without a=setup the offerer connects (RFC 4975 5.4), and the answer says nothing either.
            offered = setup_of(theirs, offer)
            end.setup = answer_setup(offered, self.around.options.answer_setup) if offered is not None else None
            if end.setup in (Setup.PASSIVE, None):
                end.tls_server = self._tls_server(tcp_server=True, we_offered=False)
                end.listen()
            elif end.setup is Setup.ACTIVE and self.around.options.early_syn:
                end.tls_server = self._tls_server(tcp_server=False, we_offered=False)
                end.dial(self._address(offer, theirs))
        held = direction_of(theirs, offer)
        self.direction = "" if held == "sendrecv" else _MIRROR.get(held, held)
        self.remote, self.theirs = offer, theirs
        self.understand(theirs, we_offered=False)
        return self._write(sdp, theirs.proto, e2ae=False, renewed=renewed, offer=theirs)

    def _said(self, end: Endpoint, offer: Media | None) -> Setup | None:
        """Our ``a=setup``: in an answer about a connection that exists, the role we have in it."""
        if offer is None or end is not self.now:
            return end.setup
        offered = setup_of(offer, self.remote)
        return None if offered is None else answer_setup(offered, end.role)

    def _write(
        self, sdp: SessionDescription, proto: str, *, e2ae: bool, renewed: bool, offer: Media | None = None
    ) -> Media:
        end = self.next or self.now
        if end is None:
            raise NotAcceptable("a line without a connection")
        if offer is None:
            proto += self.application
        media = sdp.add_media(self.media, end.shown_port, proto)
        self._attributes(media, end, renewed=renewed, offer=offer)
        setup = self._said(end, offer)
        if setup is not None:
            media.add_attribute("setup", setup.value)
        if end.secure:
            for value in end.fingerprints():
                media.add_attribute("fingerprint", value)
        if e2ae:
            media.add_attribute("3ge2ae", "requested")
        if self.direction:
            media.add_attribute(self.direction)
        return media

    # --- connection ---

    def answered(self, ours: Media, theirs: Media, answer: SessionDescription) -> None:
        """The answer to our offer: connect, or let the peer. Raises :class:`NotAcceptable`."""
        if ours.proto.upper() != theirs.proto.upper():
            raise NotAcceptable(f"offered {ours.proto}, answered {theirs.proto}")
        self.check_address(answer, theirs)
        self.remote, self.theirs = answer, theirs
        self.understand(theirs, we_offered=True)
        if self.next is not None:
            self._start(connector(setup_of(ours), setup_of(theirs, answer)), we_offered=True)
        else:
            self._rebind()

    def confirmed(self) -> None:
        """Our answer is on its way: connect, or let the peer."""
        if self.next is not None and self.theirs is not None and self.remote is not None:
            self._start(connector(setup_of(self.theirs, self.remote), self.next.setup), we_offered=False)
        else:
            self._rebind()

    def withdraw(self) -> None:
        """The offer was refused: what was before stays."""
        if self.next is not None and self.now is not None:
            self.next.close()
            self.next = None
            self._old_session()

    def close(self) -> None:
        """End the session and free the sockets."""
        for end in (self.now, self.next):
            if end is not None:
                end.close()
        self._close_session()

    def fail(self, reason: str) -> None:
        """No connection comes about."""
        raise NotImplementedError

    def _start(self, who: Connector, *, we_offered: bool) -> None:
        end = self.next
        if end is None or self.remote is None or self.theirs is None or who is Connector.NOBODY:
            return
        if self.now is not None:
            self.now.close()
            self._close_old_session()
        self.now, self.next = end, None
        we_connect = (who is Connector.OFFERER) == we_offered
        end.role = Setup.ACTIVE if we_connect else Setup.PASSIVE
        self._new_session(we_connect=we_connect)
        if we_connect and end.dialling is None:
            end.tls_server = self._tls_server(tcp_server=False, we_offered=we_offered)
            end.dial(self._address(self.remote, self.theirs))
        self._linked(end)

    def _prepare(self, identity: Identity | None = None) -> Endpoint:
        if identity is not None:
            self.around.identity = identity
        end: Endpoint
        end = Endpoint(self.around, on_link=lambda: self._linked(end), on_fail=self.fail)
        self.next = end
        return end

    def _linked(self, end: Endpoint) -> None:
        """Session and connection both exist: put them together."""
        if end is not self.now or self.remote is None or self.theirs is None or (link := end.take()) is None:
            return
        if end.secure:
            link.expect(tuple((one.hash, one.octets) for one in fingerprints(self.remote, self.theirs)))
        self._bind(end)

    def _wants_new(self, offer: SessionDescription, theirs: Media) -> bool:
        """The peer's later offer asks for a new connection: said so, another fingerprint, another address."""
        before = self.theirs
        if before is None or self.remote is None:
            return True
        if connection_of(theirs) == "new" and self.application != "MSRP":
            return True
        if set(fingerprints(offer, theirs)) != set(fingerprints(self.remote, before)):
            return True
        here, there = self._address(offer, theirs), self._address(self.remote, before)
        return self._is_another(theirs) or (here != there and DISCARD not in (here[1], there[1]))

    # --- what differs ---

    def accepts(self, offer: SessionDescription, theirs: Media) -> None:
        """Raises :class:`NotAcceptable` where the offered line cannot be answered."""

    def check_address(self, answer: SessionDescription, theirs: Media) -> None:
        """Raises :class:`NotAcceptable` where the answered line cannot be connected to."""

    def understand(self, theirs: Media, *, we_offered: bool) -> None:
        """Take from the peer's line what the session needs."""

    def _tls_server(self, *, tcp_server: bool, we_offered: bool) -> bool:
        raise NotImplementedError

    def _address(self, remote: SessionDescription, theirs: Media) -> tuple[str, int]:
        return remote.address_of(theirs).address, theirs.port

    def _attributes(self, media: Media, end: Endpoint, *, renewed: bool, offer: Media | None) -> None:
        raise NotImplementedError

    def _is_another(self, theirs: Media) -> bool:
        """Another session at the peer than the one we know."""
        return False

    def _rebind(self) -> None:
        """The same connection may lead to another session now."""

    def _fresh_session(self) -> None:
        """A new connection is being prepared beside the old one."""

    def _old_session(self) -> None:
        """It was not to be."""

    def _new_session(self, *, we_connect: bool) -> None:
        raise NotImplementedError

    def _bind(self, end: Endpoint) -> None:
        raise NotImplementedError

    def _close_old_session(self) -> None:
        raise NotImplementedError

    def _close_session(self) -> None:
        raise NotImplementedError


class MsrpLine(Line):
    """An MSRP line: the TLS client is who connects (RFC 6135 6)."""

    application = "MSRP"
    media = "message"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.chat = ChatSession(around.folder)
        self._id = self._old_id = secrets.token_hex(10)
        self._leads_to = ""
        self._session: MsrpSession | None = None

    @property
    def folder(self) -> Path | None:
        """Where received files go."""
        return self.around.folder

    def accepts(self, offer: SessionDescription, theirs: Media) -> None:
        """An offer without CEMA whose c=/m= differ from its path is refused (RFC 6714 4.3)."""
        if _anchored(offer, theirs) and not has_cema(theirs):
            raise NotAcceptable("c= and m= do not match a=path, and there is no a=msrp-cema")

    def check_address(self, answer: SessionDescription, theirs: Media) -> None:
        """Where c= and m= are not what the path says, both sides must know CEMA (RFC 6714 4.2)."""
        if _anchored(answer, theirs) and not (has_cema(theirs) and self.around.options.cema):
            raise CemaNeeded("c= and m= of the answer do not match its a=path, and CEMA was not agreed")

    def fail(self, reason: str) -> None:
        """No connection comes about."""
        self.chat.fail(reason)

    def _tls_server(self, *, tcp_server: bool, we_offered: bool) -> bool:
        return tcp_server

    def _path(self, end: Endpoint) -> str:
        host = f"[{self.around.host}]" if ":" in self.around.host else self.around.host
        return f"{'msrps' if end.secure else 'msrp'}://{host}:{end.port}/{self._id};tcp"

    def _attributes(self, media: Media, end: Endpoint, *, renewed: bool, offer: Media | None) -> None:
        media.add_attribute("accept-types", "*")
        media.add_attribute("path", self._path(end))
        if self.around.options.cema:
            media.add_attribute("msrp-cema")

    def _address(self, remote: SessionDescription, theirs: Media) -> tuple[str, int]:
        if not (self.around.options.cema and has_cema(theirs)):
            path = path_of(theirs)
            if path is not None and path.hop.port is not None:
                return path.hop.host, path.hop.port
        return super()._address(remote, theirs)

    def _is_another(self, theirs: Media) -> bool:
        return self.theirs is None or self.theirs.get("path") != theirs.get("path")

    def _rebind(self) -> None:
        path = None if self.theirs is None else path_of(self.theirs)
        if self.now is None or path is None or self._session is None or str(path) == self._leads_to:
            return
        self._session = self._make(self.now, path, active=self.now.role is Setup.ACTIVE)
        self.chat.restart(self._session)
        self.chat.on_lost = self._lost
        self.now.moves = True

    def _lost(self) -> None:
        """What is between us and the peer needs a connection of its own for another answer to a forked offer."""
        path = None if self.theirs is None else path_of(self.theirs)
        if self.now is not None and self.remote is not None and self.theirs is not None and path is not None:
            self._session = self._make(self.now, path, active=self.now.role is Setup.ACTIVE)
            self.now.again(self._address(self.remote, self.theirs))

    def _fresh_session(self) -> None:
        self._old_id, self._id = self._id, secrets.token_hex(10)

    def _old_session(self) -> None:
        self._id = self._old_id

    def _new_session(self, *, we_connect: bool) -> None:
        path = None if self.theirs is None else path_of(self.theirs)
        if path is None or self.now is None:
            raise NotAcceptable("no a=path")
        if self._session is not None:
            self.chat = ChatSession(self.around.folder)
        self._session = self._make(self.now, path, active=we_connect)
        self.now.on_events = self.chat.events

    def _make(self, end: Endpoint, path: MsrpPath, *, active: bool) -> MsrpSession:
        match = self.around.options.match
        self._leads_to = str(path)
        return MsrpSession(self._path(end), str(path), ids=SystemIds(), match=match, active=active)

    def _bind(self, end: Endpoint) -> None:
        if self._session is not None and end.link is not None:
            self.chat.start(self._session, end.link)

    def _close_old_session(self) -> None:
        self.chat.close()

    def _close_session(self) -> None:
        self.chat.close()


def _anchored(sdp: SessionDescription, media: Media) -> bool:
    """Something between the endpoints put its own address into c= and m=."""
    path = path_of(media)
    if path is None:
        raise NotAcceptable("no a=path")
    here = (sdp.address_of(media).address, media.port)
    return media.port != DISCARD and (path.hop.host, path.hop.port) != here
