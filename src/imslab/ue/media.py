"""The MSRP half of a call: session descriptions, roles, the socket that listens or dials, and the session on top.

RFC 4975 8, RFC 6135 (``a=setup``), RFC 6714 (CEMA), RFC 8122 (fingerprints), TS 24.229 7.5.2 (``a=3ge2ae``).
"""

import asyncio
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from OpenSSL import SSL

from imskit.clock import SystemIds
from imskit.common_settings import MediaTlsSettings
from imskit.driver import spawn
from imskit.tls import Identity, media_context
from imslab.ue.chat import ChatSession
from imslab.ue.dial import connect
from imslab.ue.link import MsrpLink
from imswire.base import ProtocolError
from imswire.msrp.session import MsrpSession
from imswire.sdp.attributes import (
    E2ae,
    Fingerprint,
    Setup,
    e2ae_of,
    fingerprints,
    has_cema,
    path_of,
    setup_of,
    transport_of,
)
from imswire.sdp.model import Media, SessionDescription
from imswire.sdp.offer_answer import Connector, answer_setup, connector, pair

DISCARD = 9
"""The port in an m-line of an endpoint that only connects (RFC 4145 4.1)."""


class NotAcceptable(Exception):
    """The offer cannot be answered with a session (SIP 488), or the answer is none."""


@dataclass(frozen=True)
class MediaOptions:
    """How the MSRP line of a call is offered and answered.

    ``secure``: offer ``TCP/TLS/MSRP`` (with ``3ge2ae:requested`` where ``e2ae``). ``offer_setup`` and
    ``answer_setup``: the roles
    taken; an answer role that the offer does not allow gives way. ``cema``: include ``a=msrp-cema`` and use c=/m=.
    ``match``:
    how To-Path is compared. ``keep_port``: an active endpoint shows its real source port instead of 9 and dials from
    it.

    To misbehave: ``wrong_fingerprint`` lies in SDP, ``no_certificate`` hides it (TLS client only), ``early_syn``
    dials before
    the answer is sent, ``ignore_peer`` accepts any fingerprint of the peer. ``extra_media`` are m-sections appended
    as they are.
    """

    secure: bool = True
    e2ae: bool = True
    offer_setup: Setup | None = Setup.ACTPASS
    answer_setup: Setup | None = Setup.ACTIVE
    cema: bool = True
    match: Literal["strict", "session-id"] = "strict"
    keep_port: bool = False
    hashes: tuple[str, ...] = ("sha-256",)
    tls: MediaTlsSettings = field(default_factory=MediaTlsSettings)
    wrong_fingerprint: bool = False
    no_certificate: bool = False
    early_syn: bool = False
    ignore_peer: bool = False
    extra_media: str = ""
    connect_timeout: float = 15.0


class MsrpMedia:
    """Local state of one MSRP m-line: made at the offer or answer, started when both descriptions are known.

    ``syn_sent`` is set when the first SYN of a connection that we open has left, answered or not.
    """

    def __init__(self, host: str, identity: Identity, options: MediaOptions, folder: Path | None = None) -> None:
        self.options = options
        self.chat = ChatSession(folder)
        self.syn_sent = asyncio.Event()
        self.offered_e2ae: E2ae | None = None
        self.remote: SessionDescription | None = None
        self.local: SessionDescription | None = None
        self._host = host
        self._identity = identity
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._session_id = secrets.token_hex(10)
        self._version = 1
        self._sdp_id = secrets.randbits(40)
        self._listening = False
        self._link: MsrpLink | None = None
        self._session: MsrpSession | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._secure = options.secure
        self._setup: Setup | None = None
        self._role = Setup.HOLDCONN
        """What we are on the connection there is: active where we made it."""

    # --- session descriptions ---

    def offer(self) -> bytes:
        """The offer; a passive or actpass endpoint listens from now on."""
        self._secure = self.options.secure
        self._setup = self.options.offer_setup
        if self._setup in (Setup.ACTPASS, Setup.PASSIVE):
            self._listen()
        return self._describe(e2ae=self._secure and self.options.e2ae)

    def answer(self, body: bytes) -> bytes:
        """The answer to an offer. Raises :class:`NotAcceptable`."""
        offer = _parse(body)
        line = _msrp_line(offer)
        if line is None:
            raise NotAcceptable("no MSRP line to accept")
        _check_cema(offer, line)
        self.remote = offer
        transport = transport_of(line)
        self._secure = transport is not None and transport.tls
        self.offered_e2ae = e2ae_of(line)
        # Without a=setup the offerer connects (RFC 4975 5.4), and the answer says nothing either.
        offered = setup_of(line, offer)
        self._setup = answer_setup(offered, self.options.answer_setup) if offered is not None else None
        if self._setup in (Setup.PASSIVE, None):
            self._listen()
        elif self._setup is Setup.ACTIVE and self.options.early_syn:
            self._dial(offer, line)
        return self._describe(offer=offer)

    def again(self, *, remove: bool = False, body: bytes | None = None) -> bytes:
        """The same description for a re-INVITE, as offer or (with the offer's ``body``) as answer; ``remove`` sets
        port 0. An answer keeps the role that we have, where the offer allows it.
        """
        self._version += 1
        offer = None if body is None else _parse(body)
        setup = self._setup
        if offer is not None:
            line = next((m for m in offer.media if _is_msrp(m)), None)
            remove = remove or line is None or line.rejected
            offered = None if line is None else setup_of(line, offer)
            self._setup = None if offered is None else answer_setup(offered, self._role)
        description = _parse(self._describe(offer=offer, e2ae=offer is None and self._secure and self.options.e2ae))
        self._setup = setup
        if remove:
            for media in description.media:
                if _is_msrp(media):
                    media.set_port(0)
            self.close()
        return description.to_bytes()

    def _describe(self, *, offer: SessionDescription | None = None, e2ae: bool = False) -> bytes:
        family = "IP6" if ":" in self._host else "IP4"
        sdp = SessionDescription.create(family, self._host, session_id=self._sdp_id, session_version=self._version)
        done = False
        for offered in offer.media if offer is not None else ():
            if not done and _is_msrp(offered) and not offered.rejected:
                self._own_line(sdp, offered.proto, e2ae=False)
                done = True
            else:
                sdp.add_media(offered.media, 0, offered.proto, offered.formats)
        if offer is None:
            self._own_line(sdp, "TCP/TLS/MSRP" if self._secure else "TCP/MSRP", e2ae=e2ae)
        body = sdp.to_bytes()
        if offer is None and self.options.extra_media:
            body += self.options.extra_media.replace("\r\n", "\n").replace("\n", "\r\n").encode()
        self.local = _parse(body)
        return body

    def _own_line(self, sdp: SessionDescription, proto: str, *, e2ae: bool) -> None:
        active = self._setup is Setup.ACTIVE and not self.options.keep_port
        media = sdp.add_media("message", DISCARD if active else self.port, proto)
        media.add_attribute("accept-types", "*")
        media.add_attribute("path", self._path())
        if self.options.cema:
            media.add_attribute("msrp-cema")
        if self._setup is not None:
            media.add_attribute("setup", self._setup.value)
        if self._secure:
            for name in self.options.hashes:
                octets = bytearray(self._identity.fingerprint(name))
                if self.options.wrong_fingerprint:
                    octets[0] ^= 0xFF
                media.add_attribute("fingerprint", str(Fingerprint(name, bytes(octets))))
        if e2ae:
            media.add_attribute("3ge2ae", "requested")

    def _path(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'msrps' if self._secure else 'msrp'}://{host}:{self.port}/{self._session_id};tcp"

    # --- connection ---

    def answered(self, body: bytes) -> None:
        """The answer to our offer arrived: connect, or let the peer. Raises :class:`NotAcceptable`."""
        answer = _parse(body)
        self.remote = answer
        if self.local is None:
            raise NotAcceptable("an answer without an offer")
        lines = [(ours, theirs) for ours, theirs in _pairs(self.local, answer) if _is_msrp(ours)]
        if not lines or lines[0][1].rejected:
            self.chat.fail("the MSRP line was refused")
            self.close()
            return
        ours, theirs = lines[0]
        if ours.proto.upper() != theirs.proto.upper():
            raise NotAcceptable(f"offered {ours.proto}, answered {theirs.proto}")
        self._start(theirs, connector(setup_of(ours), setup_of(theirs, answer)), we_offered=True)

    def confirmed(self) -> None:
        """Our answer is on its way: connect, or let the peer."""
        if self.remote is None or self.local is None:
            return
        line = _msrp_line(self.remote)
        if line is not None:
            self._start(line, connector(setup_of(line, self.remote), self._setup), we_offered=False)

    def close(self) -> None:
        """End the session and free the socket."""
        if self._dialling is not None and (self._link is None or not self._link.opened.done()):
            self._dialling.cancel()
        self._stop_listening()
        self.chat.close()

    def _start(self, line: Media, who: Connector, *, we_offered: bool) -> None:
        remote = self.remote
        if remote is None or self.local is None:
            return
        if who is Connector.NOBODY:
            return
        we_connect = (who is Connector.OFFERER) == we_offered
        self._role = Setup.ACTIVE if we_connect else Setup.PASSIVE
        path = path_of(line)
        if path is None:
            raise NotAcceptable("no a=path")
        session = MsrpSession(self._path(), str(path), ids=SystemIds(), match=self.options.match, active=we_connect)
        self._session = session
        if we_connect and self._dialling is None:
            self._dial(remote, line)
        if self._link is not None:
            self._bind(self._link)

    def _bind(self, link: MsrpLink) -> None:
        """Session and connection both exist: put them together."""
        session = self._session
        if session is None or self.remote is None:
            return
        line = _msrp_line(self.remote)
        if self._secure and line is not None:
            link.expect(tuple((one.hash, one.octets) for one in fingerprints(self.remote, line)))
        self.chat.start(session, link)

    def _new_link(self, *, server: bool) -> MsrpLink:
        link = self._link = MsrpLink(
            self._context() if self._secure else None,
            server=server,
            on_events=self.chat.events,
            check=not self.options.ignore_peer,
        )
        return link

    def _context(self) -> SSL.Context:
        if not self.options.no_certificate:
            return media_context(self._identity, self.options.tls)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        return context

    def _listen(self) -> None:
        if not self._listening:
            self._socket.listen(1)
            self._listening = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._incoming)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _incoming(self) -> None:
        """Take the one connection of this session; any other is closed at once."""
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if self._link is not None:
            connection.close()
            return
        connection.setblocking(False)
        link = self._new_link(server=True)
        spawn(self._adopt(link, connection), name="MSRP accept")

    async def _adopt(self, link: MsrpLink, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connection)
        self._bind(link)

    def _dial(self, remote: SessionDescription, line: Media) -> None:
        address = remote.address_of(line).address, line.port
        if not (self.options.cema and has_cema(line)):
            path = path_of(line)
            if path is not None and path.hop.port is not None:
                address = path.hop.host, path.hop.port
        self._stop_listening()
        self._dialling = spawn(self._connect(*address), name="MSRP dial")

    async def _connect(self, host: str, port: int) -> None:
        local = (self._host, self.port if self.options.keep_port else 0)
        try:
            sock = await connect(local, (host, port), self.syn_sent, self.options.connect_timeout)
            link = self._new_link(server=False)
            await asyncio.get_running_loop().create_connection(lambda: link, sock=sock)
        except (OSError, TimeoutError) as error:
            self.chat.fail(f"cannot connect to {host}:{port}: {str(error) or 'no answer'}")
            return
        self._bind(link)


def _parse(body: bytes) -> SessionDescription:
    try:
        return SessionDescription.parse(body)
    except ProtocolError as error:
        raise NotAcceptable(str(error)) from None


def _pairs(offer: SessionDescription, answer: SessionDescription) -> list[tuple[Media, Media]]:
    try:
        return pair(offer, answer)
    except ProtocolError as error:
        raise NotAcceptable(str(error)) from None


def _is_msrp(media: Media) -> bool:
    transport = transport_of(media)
    return media.media == "message" and transport is not None and transport.application == "MSRP"


def _msrp_line(sdp: SessionDescription) -> Media | None:
    return next((media for media in sdp.media if _is_msrp(media) and not media.rejected), None)


def _check_cema(offer: SessionDescription, line: Media) -> None:
    """An offer without CEMA whose c=/m= differ from its path is refused (RFC 6714 4.3)."""
    path = path_of(line)
    if path is None:
        raise NotAcceptable("no a=path")
    here = (offer.address_of(line).address, line.port)
    if not has_cema(line) and line.port != DISCARD and (path.hop.host, path.hop.port) != here:
        raise NotAcceptable("c= and m= do not match a=path, and there is no a=msrp-cema")
