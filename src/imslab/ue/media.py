"""The media of a call: session descriptions with several MSRP lines and a BFCP line, from either side, again and again.

RFC 3264 (offer and answer), RFC 4975 8, RFC 6135 (``a=setup``), RFC 6714 (CEMA), RFC 8122 (fingerprints), RFC 8856
(BFCP), TS 24.229 7.5.2 (``a=3ge2ae``).
"""

import secrets
from pathlib import Path

from imskit.tls import Identity
from imslab.ue.chat import ChatSession
from imslab.ue.endpoint import Surroundings
from imslab.ue.floor import FloorSession
from imslab.ue.floorline import BfcpLine
from imslab.ue.lines import Line, MsrpLine
from imslab.ue.link import MsrpLink
from imslab.ue.options import DISCARD, FloorOptions, MediaOptions, NotAcceptable, Reoffer
from imswire.base import ProtocolError
from imswire.sdp.attributes import E2ae, transport_of
from imswire.sdp.model import Media, SessionDescription
from imswire.sdp.offer_answer import pair

__all__ = ["DISCARD", "CallMedia", "FloorOptions", "MediaOptions", "MsrpMedia", "NotAcceptable", "Reoffer"]


class CallMedia:
    """Local state of the media of one call: made at the offer or answer, started when both descriptions are known.

    ``lines`` are by m-line, None for those of others. ``syn_sent`` is set when the first SYN of a connection that we
    open has left, answered or not.
    """

    def __init__(self, host: str, identity: Identity, options: MediaOptions, folder: Path | None = None) -> None:
        self._around = Surroundings(host, identity, options, folder, MsrpLink)
        self.syn_sent = self._around.syn_sent
        self.remote: SessionDescription | None = None
        self.local: SessionDescription | None = None
        self.lines: list[Line | None] = []
        self._first = MsrpLine(self._around)
        self._extra: list[Media] = []
        self._version = 1
        self._sdp_id = secrets.randbits(40)

    @property
    def options(self) -> MediaOptions:
        """How offers and answers are made; may be set until the first of them."""
        return self._around.options

    @options.setter
    def options(self, options: MediaOptions) -> None:
        self._around.options = options

    @property
    def chats(self) -> list[ChatSession]:
        """The MSRP sessions in the order of their m-lines."""
        return [line.chat for line in self.lines if isinstance(line, MsrpLine)]

    @property
    def chat(self) -> ChatSession:
        """The first MSRP session."""
        return next(iter(self.chats), self._first.chat)

    @property
    def floor(self) -> FloorSession:
        """The BFCP session; raises :class:`NotAcceptable` where there is no such line."""
        for line in self.lines:
            if isinstance(line, BfcpLine):
                return line.floor
        raise NotAcceptable("the call has no BFCP line")

    @property
    def offered_e2ae(self) -> E2ae | None:
        """The first ``a=3ge2ae`` that was offered to us."""
        return next((line.offered_e2ae for line in self.lines if line is not None and line.offered_e2ae), None)

    @property
    def port(self) -> int:
        """The local port of the first line."""
        return next((line for line in self.lines if line is not None), self._first).port

    # --- descriptions ---

    def offer(self) -> bytes:
        """The first offer; a passive or actpass line listens from now on."""
        options = self.options
        for _ in range(options.lines):
            self.lines.append(self._msrp())
        if options.floor is not None:
            self.lines.append(BfcpLine(self._around, options.floor))
        sdp = self._begin()
        for line in self.lines:
            if line is not None:
                line.offer(sdp)
        body = sdp.to_bytes()
        if options.extra_media:
            body += options.extra_media.replace("\r\n", "\n").replace("\n", "\r\n").encode()
        self.local = _parse(body)
        self._extra = self.local.media[len(self.lines) :]
        self.lines += [None] * len(self._extra)
        return body

    def answer(self, body: bytes) -> bytes:
        """The answer to the first or a later offer. Raises :class:`NotAcceptable`."""
        offer = _parse(body)
        first = self.remote is None
        sdp = self._begin()
        for index, theirs in enumerate(offer.media):
            if index == len(self.lines):
                self.lines.append(None)
            line = self.lines[index]
            if theirs.rejected:
                self._remove(line)
                line = None
            elif line is None or line.removed or line.application != _application(theirs):
                line = self._new_line(theirs)
            if line is None:
                sdp.add_media(theirs.media, 0, theirs.proto, theirs.formats)
            else:
                self.lines[index] = line
                line.answer(sdp, offer, theirs)
        if first and not any(line is not None for line in self.lines):
            raise NotAcceptable("no MSRP line to accept" if self.options.floor is None else "no line to accept")
        self.remote = offer
        self.local = _parse(sdp.to_bytes())
        return sdp.to_bytes()

    def again(self, *, remove: bool = False, body: bytes | None = None, change: Reoffer | None = None) -> bytes:
        """A later description: as answer to the offer ``body``, or as offer with a ``change`` (``remove``: every line
        gets port 0).
        """
        if body is not None:
            return self.answer(body)
        change = change or Reoffer(remove=remove)
        for _ in range(change.add):
            self.lines.append(self._msrp())
        if change.add_floor is not None:
            self.lines.append(BfcpLine(self._around, change.add_floor))
        if change.identity is not None:
            self._around.identity = change.identity
        sdp = self._begin()
        for index, line in enumerate(self.lines):
            before = self.local.media[index] if self.local is not None and index < len(self.local.media) else None
            if line is None or line.removed or change.removes(index):
                self._leave(sdp, line, before)
            else:
                line.offer(sdp, change, renew=change.renews(index) and (line.secure or change.identity is None))
        data = sdp.to_bytes() if change.edit is None else change.edit(sdp.to_bytes())
        self.local = _parse(data)
        return data

    def answered(self, body: bytes) -> None:
        """The answer to our offer arrived: connect, or let the peer. Raises :class:`NotAcceptable`."""
        answer = _parse(body)
        if self.local is None:
            raise NotAcceptable("an answer without an offer")
        pairs = _pairs(self.local, answer)
        self.remote = answer
        for line, (ours, theirs) in zip(self.lines, pairs, strict=False):
            if line is None:
                continue
            if theirs.rejected:
                line.fail(f"the {line.application} line was refused")
                self._remove(line)
            else:
                line.answered(ours, theirs, answer)

    def confirmed(self) -> None:
        """Our answer is on its way: connect, or let the peer."""
        for line in self.lines:
            if line is not None:
                line.confirmed()

    def refuse(self, body: bytes) -> bytes:
        """An answer that refuses every line."""
        offer = _parse(body)
        sdp = self._begin()
        for theirs in offer.media:
            sdp.add_media(theirs.media, 0, theirs.proto, theirs.formats)
        return sdp.to_bytes()

    def withdraw(self) -> None:
        """Our later offer was refused."""
        for line in self.lines:
            if line is not None:
                line.withdraw()

    def close(self) -> None:
        """End the sessions and free the sockets."""
        for line in self.lines or [self._first]:
            if line is not None:
                line.close()

    # --- inside ---

    def _begin(self) -> SessionDescription:
        host = self._around.host
        version, self._version = self._version, self._version + 1
        family = "IP6" if ":" in host else "IP4"
        return SessionDescription.create(family, host, session_id=self._sdp_id, session_version=version)

    def _msrp(self) -> MsrpLine:
        """The line that exists since the call does, or another one."""
        return MsrpLine(self._around) if self._first in self.lines else self._first

    def _new_line(self, theirs: Media) -> Line | None:
        """A line that we can answer with; None where it is to be refused."""
        match _application(theirs):
            case "MSRP":
                used = sum(isinstance(line, MsrpLine) for line in self.lines)
                return self._msrp() if used < max(self.options.lines, 1) else None
            case "BFCP" if self.options.floor is not None:
                return BfcpLine(self._around, self.options.floor)
        return None

    def _remove(self, line: Line | None) -> None:
        if line is not None and not line.removed:
            line.removed = True
            line.close()

    def _leave(self, sdp: SessionDescription, line: Line | None, before: Media | None) -> None:
        """A line that is not, or no longer, in use keeps its place with port 0 (RFC 3264 8.2)."""
        self._remove(line)
        if before is not None:
            media = sdp.add_media(before.media, 0, before.proto, before.formats)
            if line is None:
                media.set_port(before.port)
                media.lines = before.lines.copy()


MsrpMedia = CallMedia
"""The name from when calls had one MSRP line."""


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


def _application(media: Media) -> str:
    """MSRP or BFCP, where media type and transport agree; else nothing."""
    transport = transport_of(media)
    kinds = {("message", "MSRP"), ("application", "BFCP")}
    known = transport is not None and (media.media, transport.application) in kinds
    return transport.application if transport is not None and known else ""
