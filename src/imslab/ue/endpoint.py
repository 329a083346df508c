"""One local end of a media connection: a socket that listens or dials, and the link on top of it."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from imskit.driver import spawn
from imskit.tls import Identity, media_context
from imslab.ue.dial import connect
from imslab.ue.link import MsrpLink
from imslab.ue.options import DISCARD, MediaOptions
from imswire.sdp.attributes import Fingerprint, Setup


@dataclass
class Surroundings:
    """What the lines of a call share. ``syn_sent`` is set when the first SYN that a line sends has left, answered or
    not; ``link_class`` makes the connections.
    """

    host: str
    identity: Identity
    options: MediaOptions
    folder: Path | None = None
    link_class: type[MsrpLink] = MsrpLink
    syn_sent: asyncio.Event = field(default_factory=asyncio.Event)


class Endpoint:
    """A bound socket with a port of its own; it listens, or dials, once.

    ``tls_server`` is decided by who uses it, independently of who connects. ``on_link`` is told when a connection
    exists, ``on_fail`` when none comes about, ``on_events`` what the session on the link says. ``setup`` is what we
    said, ``role`` what came of it.
    """

    def __init__(self, around: Surroundings, *, on_link: Callable[[], None], on_fail: Callable[[str], None]) -> None:
        self._around = around
        self._identity = around.identity
        self._on_link = on_link
        self._on_fail = on_fail
        self.on_events: Callable[[list[Any]], None] = lambda _: None
        self.setup: Setup | None = None
        self.role: Setup | None = None
        self.secure = False
        self.tls_server = False
        self.link: MsrpLink | None = None
        self.dialling: asyncio.Task[None] | None = None
        self._connected = False
        self._in_use = False
        self._listening = False
        self.moves = False
        """The peer may take the connection elsewhere: close this one and make another, in whatever order we see it."""
        self._early: socket.socket | None = None  # the other one, seen before the end of this one
        self._socket = socket.socket(socket.AF_INET6 if ":" in around.host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((around.host, 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def shown_port(self) -> int:
        """The port in the m-line."""
        return DISCARD if self.setup is Setup.ACTIVE and not self._around.options.keep_port else self.port

    @property
    def connected(self) -> bool:
        """There is a TCP connection."""
        return self._connected and self.link is not None and not self.link.closed.done()

    def take(self) -> MsrpLink | None:
        """The connection, for the session that is to use it; None where there is none yet."""
        if not self.connected:
            return None
        self._in_use = True
        return self.link

    def again(self, address: tuple[str, int]) -> None:
        """The connection is over and another one is to take its place, made by the same end."""
        self._in_use = self._connected = self.moves = False
        self.link = None
        early, self._early = self._early, None
        if self.role is Setup.ACTIVE:
            self.dial(address)
        elif early is not None:
            spawn(self._adopt(self._new_link(), early), name="media accept")

    def fingerprints(self) -> list[str]:
        """The values of ``a=fingerprint``."""
        out = []
        for name in self._around.options.hashes:
            octets = bytearray(self._identity.fingerprint(name))
            if self._around.options.wrong_fingerprint:
                octets[0] ^= 0xFF
            out.append(str(Fingerprint(name, bytes(octets))))
        return out

    def listen(self) -> None:
        """Take one connection."""
        if not self._listening:
            self._socket.listen(1)
            self._listening = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._incoming)

    def dial(self, address: tuple[str, int]) -> None:
        """Open the connection."""
        self._stop_listening()
        self.dialling = spawn(self._connect(*address), name="media dial")

    def close(self) -> None:
        """Free the socket; a connection that exists is its session's business."""
        if self.dialling is not None and not self._connected:
            self.dialling.cancel()
        if self._early is not None:
            self._early.close()
            self._early = None
        self._stop_listening()

    def _new_link(self) -> MsrpLink:
        link = self.link = self._around.link_class(
            self._context() if self.secure else None,
            server=self.tls_server,
            on_events=self._events,
            check=not self._around.options.ignore_peer,
        )
        return link

    def _events(self, events: list[Any]) -> None:
        self.on_events(events)  # whoever it is by then

    def _context(self) -> SSL.Context:
        if not self._around.options.no_certificate:
            return media_context(self._identity, self._around.options.tls)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        return context

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _incoming(self) -> None:
        """Take the one connection of this session; any other is closed at once. One that ended before the session began
        was a stranger's and does not count.
        """
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        if self.link is not None and (self._in_use or not self.link.closed.done()):
            if self.moves and self._early is None:
                self._early = connection
            else:
                connection.close()
            return
        spawn(self._adopt(self._new_link(), connection), name="media accept")

    async def _adopt(self, link: MsrpLink, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connection)
        self._connected = True
        self._on_link()

    async def _connect(self, host: str, port: int) -> None:
        options = self._around.options
        local = (self._around.host, self.port if options.keep_port else 0)
        try:
            sock = await connect(local, (host, port), self._around.syn_sent, options.connect_timeout)
            link = self._new_link()
            await asyncio.get_running_loop().create_connection(lambda: link, sock=sock)
        except (OSError, TimeoutError) as error:
            self._on_fail(f"cannot connect to {host}:{port}: {str(error) or 'no answer'}")
            return
        self._connected = True
        self._on_link()
