"""One call of the lab UE: the INVITE dialog from either side, its media, and its end."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from imskit.driver import spawn
from imslab.sipnode import Cancel
from imslab.ue.chat import ChatSession
from imslab.ue.dialogue import SDP, Dialogue, SipFailure
from imslab.ue.floor import FloorSession
from imslab.ue.media import CallMedia, MediaOptions
from imslab.ue.options import CemaNeeded, NotAcceptable
from imslab.ue.reliable import ReliableReceiver, ReliableSender
from imswire.base import ProtocolError
from imswire.sip.dialog import Dialog
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ClientKey, ServerKey

if TYPE_CHECKING:
    from imslab.ue.agent import UeAgent

__all__ = ["ALLOW", "Call", "SipFailure"]

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE"


class Call(Dialogue):
    """A call, made by :meth:`UeAgent.call`, :meth:`UeAgent.dial` or :meth:`UeAgent.wait_call`.

    ``ended`` resolves with a sentence when the call is over, whoever ended it; ``end_reason`` is the Reason header
    of the BYE or CANCEL that ended it. ``responses`` are the status codes seen for our INVITE, ``answers`` the session
    descriptions that came with them, by To tag. ``updates`` are the later offers of the peer.
    ``fallback`` is the second offer, without CEMA, where the answer to the first one made it necessary.
    """

    def __init__(self, ue: "UeAgent", call_id: str, media: CallMedia) -> None:
        super().__init__(ue, media)
        loop = asyncio.get_running_loop()
        self.call_id = call_id
        self.remote_uri = ""
        self.responses: list[int] = []
        self.answers: dict[str, bytes] = {}
        self.request_in: Request | None = None
        self._answer: asyncio.Future[Response] = loop.create_future()
        self._ringing: asyncio.Future[int] = loop.create_future()
        for future in (self._answer, self._ringing, self.confirmed):
            future.add_done_callback(lambda f: None if f.cancelled() else f.exception() and None)
        self._invite: Request | None = None
        self._delayed = False
        self._client: ClientKey | None = None
        self._server: ServerKey | None = None
        self._early: dict[str, Dialog] = {}
        self._leg = ""
        self._receiver = ReliableReceiver()
        self._acks: dict[tuple[str, int], Request] = {}
        self._settled = False
        self._described = False
        self._cema_needed = False
        self.fallback: asyncio.Task[None] | None = None

    # --- making ---

    @classmethod
    def outgoing(cls, ue: "UeAgent", uri: str, options: MediaOptions) -> "Call":
        """A call that we are going to make."""
        call = cls(ue, ue.new_ids().token(12), CallMedia(ue.options.host, ue.identity, options, ue.options.folder))
        call.remote_uri = uri
        return call

    @classmethod
    def incoming(cls, ue: "UeAgent", key: ServerKey, request: Request, options: MediaOptions) -> "Call":
        """A call that somebody makes to us; answer it with :meth:`accept` or :meth:`reject`."""
        call = cls(ue, request.call_id, CallMedia(ue.options.host, ue.identity, options, ue.options.folder))
        call.request_in = request
        call.remote_uri = request.from_.uri
        call._server = key
        call._local_tag = ue.new_ids().tag()
        call._offer = "theirs" if request.body else ""
        return call

    _local_tag = ""

    @property
    def chat(self) -> ChatSession:
        """The first MSRP session."""
        return self.media.chat

    @property
    def session(self) -> ChatSession:
        """The first MSRP session."""
        return self.media.chat

    @property
    def floor(self) -> FloorSession:
        """The BFCP session."""
        return self.media.floor

    # --- calling ---

    def invite(self, headers: tuple[tuple[str, str], ...] = (), *, delayed: bool = False) -> None:
        """Send the INVITE with our offer, or ``delayed`` without one."""
        ue = self.ue
        fields = Headers([("Route", route) for route in ue.route_set()])
        reliable = {"supported": "Supported", "required": "Require"}.get(ue.options.reliable)
        self._delayed = delayed
        offer = b"" if delayed else self.media.offer()
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", f"<{ue.account.aor}>;tag={ue.new_ids().tag()}"),
            ("To", f"<{self.remote_uri}>"),
            ("Call-ID", self.call_id),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<{ue.contact_uri}>"),
            ("P-Preferred-Identity", f"<{ue.account.aor}>"),
            ("Allow", ALLOW),
            *(((reliable, "100rel"),) if reliable is not None else ()),
            *headers,
            *((("Content-Type", SDP),) if offer else ()),
        ):
            fields.add(name, value)
        ue.add_security(fields)
        self._offer = "ours" if offer else ""
        self._invite = Request("INVITE", self.remote_uri, fields, offer)
        ue.send(self._invite, self._invite_answered, self._begun)

    def _begun(self, key: ClientKey) -> None:
        self._client = key

    async def ringing(self, deadline: float = 10.0) -> int:
        """Wait for the first provisional response above 100; returns its status."""
        async with asyncio.timeout(deadline):
            return await asyncio.shield(self._ringing)

    async def answered(self, deadline: float = 15.0) -> Response:
        """Wait for the 2xx; raises :class:`SipFailure` with the final status, or TimeoutError."""
        async with asyncio.timeout(deadline):
            return await asyncio.shield(self._answer)

    def cancel(self) -> None:
        """CANCEL the INVITE; :meth:`answered` then raises with 487."""
        if self._client is not None:
            self.ue.post(Cancel(self._client))

    def _invite_answered(self, response: Response | int) -> None:
        if isinstance(response, int):
            self._refused(SipFailure(response, "no answer"))
            return
        self.responses.append(response.status)
        if response.status < 200:
            self._provisional(response)
            if response.status > 100 and not self._ringing.done():
                self._ringing.set_result(response.status)
            return
        if response.status >= 300:
            self._refused(SipFailure(response.status, response.reason, response))
            return
        self._accepted(response)

    def _provisional(self, response: Response) -> None:
        """An early dialog per answering leg; a reliable response gets its PRACK (RFC 3262 4)."""
        tag = response.to_tag or ""
        if self._invite is None or response.status == 100 or not tag or not response.contacts or self._established:
            return
        dialog = self._early.get(tag)
        if dialog is None:
            dialog = self._early[tag] = Dialog.as_uac(self._invite, response)
            self.ue.joined(dialog.id, self)
        rack = self._receiver.rack(response)
        if rack is None:
            return
        self._dialog = dialog
        headers, body = [("RAck", rack)], b""
        if response.body and self._delayed and not self._described:
            self._described = True
            body = self.media.answer(response.body)
            headers.append(("Content-Type", SDP))
        elif response.body and self._leg in ("", tag):
            self._take_answer(tag, response.body)
        elif response.body:  # the media follow it when its dialog is confirmed
            self.answers.setdefault(tag, response.body)
        self.ue.send(dialog.make_request("PRACK", headers, body), lambda _: None)
        if body:
            self.media.confirmed()

    def _take_answer(self, tag: str, body: bytes) -> None:
        """The answer of a leg. Another leg of a fork has its own; the media then follow that one."""
        if tag in self.answers and tag == self._leg:
            return
        self.answers[tag] = body
        self._leg = tag
        self._offer = ""
        try:
            self.media.answered(body)
        except CemaNeeded:
            self._cema_needed = True
        except (NotAcceptable, ProtocolError) as error:
            self.media.chat.fail(str(error))

    async def _without_cema(self) -> None:
        """The peer, or something on the way, does not know CEMA: the same again in the old way (RFC 6714 4.2)."""
        self.media.options = replace(self.media.options, cema=False)
        try:
            await self.reoffer()
        except (SipFailure, NotAcceptable, TimeoutError) as error:
            self.media.chat.fail(f"no session without CEMA: {error}")

    def _accepted(self, response: Response) -> None:
        if self._invite is None:
            return
        tag = response.to_tag or ""
        key = (tag, response.cseq.number)
        known = self._acks.get(key)
        if known is not None:
            self.ue.send_ack(known)
            return
        dialog = Dialog.as_uac(self._invite, response)
        early = self._early.get(tag)
        if early is not None:
            dialog.local_cseq, dialog.remote_cseq = early.local_cseq, early.remote_cseq
        answering = self._delayed and not self._described and not self._established
        ack = self._acks[key] = self._ack(dialog, response, answering=answering)
        self.ue.send_ack(ack)
        if self._established or self.ended.done():
            # A second branch of a fork answered as well: one call is enough (RFC 3261 13.2.2.4).
            self.ue.send(dialog.make_request("BYE"), lambda _: None)
            return
        self._dialog = dialog
        self._established = True
        self.ue.joined(dialog.id, self)
        if not self._answer.done():
            self._answer.set_result(response)
        if not self.confirmed.done():
            self.confirmed.set_result(None)
        if answering:
            self.media.confirmed()
        elif response.body and not self._delayed:
            self._take_answer(tag, response.body)
        elif tag in self.answers and tag != self._leg:
            self._take_answer(tag, self.answers[tag])
        if self._cema_needed:
            self.fallback = spawn(self._without_cema(), name="CEMA fallback")

    def _refused(self, failure: SipFailure) -> None:
        if not self._answer.done():
            self._answer.set_exception(failure)
        if not self._ringing.done():
            self._ringing.set_exception(failure)
        self._end(f"refused with {failure}")

    # --- being called ---

    def ring(self, status: int = 180, *, reliable: bool | None = None, sdp: bool = False) -> None:
        """Send a provisional response; ``reliable`` with RSeq, which a ``Require: 100rel`` decides where None.

        ``sdp``: with our answer, or our offer where the INVITE had none. Raises :class:`NotAcceptable`.
        """
        if self._server is None or self.request_in is None or self._settled:
            return
        request, server = self.request_in, self._server
        self._early_dialog(request)
        if reliable is None:
            reliable = "100rel" in {one.strip().lower() for one in request.headers.values("require")}
        body = b""
        if sdp and not self._described:
            body = self._describe(request)
        response = self._reply(request, status, body)
        if not reliable:
            self.ue.respond(server, response)
        else:
            self._sender = self._sender or ReliableSender(
                lambda repeated: self.ue.respond(server, repeated), lambda: self.reject(504)
            )
            self._sender.send(response)
        if body and request.body:
            self.media.confirmed()

    async def pracked(self, deadline: float = 10.0) -> None:
        """Wait for the PRACK to our last reliable response; raises TimeoutError."""
        if self._sender is not None and self._sender.done is not None:
            async with asyncio.timeout(deadline):
                await self._sender.done

    def accept(self, media: MediaOptions | None = None) -> None:
        """Answer with 200. Raises :class:`NotAcceptable` after a 488 was sent."""
        if self._server is None or self.request_in is None or self._settled:
            return
        if media is not None:
            self.media.options = media
        try:
            body = b"" if self._described else self._describe(self.request_in)
        except (NotAcceptable, ProtocolError) as error:
            self.reject(488)
            raise NotAcceptable(str(error)) from None
        self.confirm(body)

    def prepare(self, media: MediaOptions | None = None) -> bytes:
        """Make the answer without sending it (an ``early_syn`` goes out now); send it with :meth:`confirm`."""
        if media is not None:
            self.media.options = media
        return self.media.answer(self.request_in.body if self.request_in is not None else b"")

    def confirm(self, body: bytes) -> None:
        """Send the 200 with this answer and start the media."""
        if self._server is None or self.request_in is None or self._settled:
            return
        self._settled = self._established = True
        if self.request_in.body:
            self._offer = ""
        self._early_dialog(self.request_in)
        self.ue.respond(self._server, self._reply(self.request_in, 200, body))
        if self.request_in.body:
            self.media.confirmed()

    def reject(self, status: int = 486) -> None:
        """Refuse the call."""
        if self._server is None or self.request_in is None or self._settled:
            return
        self._settled = True
        self.ue.respond(self._server, self._reply(self.request_in, status))
        self._end(f"rejected with {status}")

    def cancelled_by_peer(self) -> None:
        """The caller gave up before we answered."""
        if self._settled:
            return
        self.reject(487)

    def _early_dialog(self, request: Request) -> None:
        if self._dialog is None:
            self._dialog = Dialog.as_uas(request, self._local_tag, early=True)
            self.ue.joined(self._dialog.id, self)

    def _describe(self, request: Request) -> bytes:
        """Our answer to the INVITE's offer, or the offer that it asks for."""
        self._described = True
        body = self.media.answer(request.body) if request.body else self.media.offer()
        self._offer = "" if request.body else "ours"
        return body

    def _reply(self, request: Request, status: int, body: bytes = b"") -> Response:
        headers = [("Contact", f"<{self.ue.contact_uri}>")] if status < 300 else []
        if body:
            headers.append(("Content-Type", SDP))
        return request.reply(status, to_tag=self._local_tag or None, headers=headers, body=body)

    # --- the end ---

    async def hangup(self, deadline: float = 5.0) -> int:
        """BYE (or CANCEL, or 603 before the answer); returns the status of the BYE, 0 where none was needed."""
        if self.ended.done():
            return 0
        if self._dialog is None or not self._established:
            self.cancel() if self._client is not None else self.reject(603)
            return 0
        return await self._bye(self._dialog, deadline)

    async def wait_end(self, deadline: float = 10.0) -> str:
        """Wait until the call is over; returns why."""
        async with asyncio.timeout(deadline):
            return await asyncio.shield(self.ended)

    def drop(self) -> None:
        """Forget the call without a word to the peer."""
        self._end("dropped")

    def _end(self, why: str) -> None:
        if self.ended.done():
            return
        if self._sender is not None:
            self._sender.stop()
        self.ended.set_result(why)
        self.media.close()
        self.ue.over(self)
