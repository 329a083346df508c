"""One call of the lab UE: the INVITE dialog from either side, its media, and its end."""

import asyncio
from typing import TYPE_CHECKING

from imslab.sipnode import Cancel
from imslab.ue.chat import ChatSession
from imslab.ue.media import MediaOptions, MsrpMedia, NotAcceptable
from imswire.base import ProtocolError
from imswire.sip.dialog import Dialog, DialogId
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ClientKey, ServerKey

if TYPE_CHECKING:
    from imslab.ue.agent import UeAgent

SDP = "application/sdp"


class SipFailure(Exception):
    """A final response other than 2xx, or 408 and 503 where none came."""

    def __init__(self, status: int, reason: str = "", response: Response | None = None) -> None:
        super().__init__(f"{status} {reason}".strip())
        self.status = status
        self.reason = reason
        self.response = response


class Call:
    """A call, made by :meth:`UeAgent.call`, :meth:`UeAgent.dial` or :meth:`UeAgent.wait_call`.

    ``ended`` resolves with a sentence when the call is over, whoever ended it; ``end_reason`` is the Reason header
    of the BYE
    or CANCEL that ended it. ``responses`` are the status codes seen for our INVITE.
    """

    def __init__(self, ue: "UeAgent", call_id: str, media: MsrpMedia) -> None:
        loop = asyncio.get_running_loop()
        self.ue = ue
        self.call_id = call_id
        self.media = media
        self.remote_uri = ""
        self.responses: list[int] = []
        self.request_in: Request | None = None
        self.end_reason = ""
        self.ended: asyncio.Future[str] = loop.create_future()
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self._answer: asyncio.Future[Response] = loop.create_future()
        self._ringing: asyncio.Future[int] = loop.create_future()
        for future in (self._answer, self._ringing, self.confirmed):
            future.add_done_callback(lambda f: None if f.cancelled() else f.exception() and None)
        self._dialog: Dialog | None = None
        self._invite: Request | None = None
        self._client: ClientKey | None = None
        self._server: ServerKey | None = None
        self._acks: dict[tuple[str, int], Request] = {}
        self._again: asyncio.Future[Response] | None = None
        self._settled = False

    # --- making ---

    @classmethod
    def outgoing(cls, ue: "UeAgent", uri: str, options: MediaOptions) -> "Call":
        """A call that we are going to make."""
        call = cls(ue, ue.new_ids().token(12), MsrpMedia(ue.options.host, ue.identity, options, ue.options.folder))
        call.remote_uri = uri
        return call

    @classmethod
    def incoming(cls, ue: "UeAgent", key: ServerKey, request: Request, options: MediaOptions) -> "Call":
        """A call that somebody makes to us; answer it with :meth:`accept` or :meth:`reject`."""
        call = cls(ue, request.call_id, MsrpMedia(ue.options.host, ue.identity, options, ue.options.folder))
        call.request_in = request
        call.remote_uri = request.from_.uri
        call._server = key
        call._local_tag = ue.new_ids().tag()
        return call

    _local_tag = ""

    @property
    def chat(self) -> ChatSession:
        """The MSRP session."""
        return self.media.chat

    @property
    def session(self) -> ChatSession:
        """The MSRP session."""
        return self.media.chat

    # --- calling ---

    def invite(self, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Send the INVITE with our offer."""
        ue = self.ue
        fields = Headers([("Route", route) for route in ue.route_set()])
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", f"<{ue.account.aor}>;tag={ue.new_ids().tag()}"),
            ("To", f"<{self.remote_uri}>"),
            ("Call-ID", self.call_id),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<{ue.contact_uri}>"),
            ("P-Preferred-Identity", f"<{ue.account.aor}>"),
            ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
            *headers,
            ("Content-Type", SDP),
        ):
            fields.add(name, value)
        ue.add_security(fields)
        self._invite = Request("INVITE", self.remote_uri, fields, self.media.offer())
        self._client = ue.send(self._invite, self._invite_answered)

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
            if response.status > 100 and not self._ringing.done():
                self._ringing.set_result(response.status)
            return
        if response.status >= 300:
            self._refused(SipFailure(response.status, response.reason, response))
            return
        self._accepted(response)

    def _accepted(self, response: Response) -> None:
        if self._invite is None:
            return
        key = (response.to_tag or "", response.cseq.number)
        known = self._acks.get(key)
        if known is not None:
            self.ue.send_ack(known)
            return
        dialog = Dialog.as_uac(self._invite, response)
        ack = self._acks[key] = dialog.make_ack(response.cseq.number)
        self.ue.send_ack(ack)
        if self._dialog is not None or self.ended.done():
            # A second branch of a fork answered as well: one call is enough (RFC 3261 13.2.2.4).
            self.ue.send(dialog.make_request("BYE"), lambda _: None)
            return
        self._dialog = dialog
        self.ue.joined(dialog.id, self)
        if not self._answer.done():
            self._answer.set_result(response)
        if not self.confirmed.done():
            self.confirmed.set_result(None)
        try:
            self.media.answered(response.body)
        except (NotAcceptable, ProtocolError) as error:
            self.media.chat.fail(str(error))

    def _refused(self, failure: SipFailure) -> None:
        if not self._answer.done():
            self._answer.set_exception(failure)
        if not self._ringing.done():
            self._ringing.set_exception(failure)
        self._end(f"refused with {failure}")

    # --- being called ---

    def ring(self, status: int = 180) -> None:
        """Send a provisional response."""
        if self._server is not None and self.request_in is not None and not self._settled:
            self.ue.respond(self._server, self._reply(self.request_in, status))

    def accept(self, media: MediaOptions | None = None) -> None:
        """Answer with 200. Raises :class:`NotAcceptable` after a 488 was sent."""
        if self._server is None or self.request_in is None or self._settled:
            return
        if media is not None:
            self.media.options = media
        try:
            body = self.media.answer(self.request_in.body)
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
        self._settled = True
        self._dialog = Dialog.as_uas(self.request_in, self._local_tag)
        self.ue.joined(self._dialog.id, self)
        self.ue.respond(self._server, self._reply(self.request_in, 200, body))
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

    def _reply(self, request: Request, status: int, body: bytes = b"") -> Response:
        headers = [("Contact", f"<{self.ue.contact_uri}>")] if status < 300 else []
        if body:
            headers.append(("Content-Type", SDP))
        return request.reply(status, to_tag=self._local_tag or None, headers=headers, body=body)

    # --- within the dialog ---

    def acknowledged(self, _: Request) -> None:
        """An ACK for our 2xx came."""
        if not self.confirmed.done():
            self.confirmed.set_result(None)

    def request(self, key: ServerKey, request: Request) -> None:
        """A request within the dialog."""
        dialog = self._dialog
        if dialog is None or not dialog.take(request):
            self.ue.respond(key, request.reply(500 if dialog is not None else 481))
            return
        match request.method:
            case "BYE":
                self.end_reason = request.headers.get("reason") or ""
                self.ue.respond(key, request.reply(200))
                self._end("the peer hung up" + (f" ({self.end_reason})" if self.end_reason else ""))
            case "INVITE":
                try:
                    body = self.media.again(body=request.body)
                except (NotAcceptable, ProtocolError):
                    self.ue.respond(key, request.reply(488))
                    return
                self.ue.respond(key, self._reply(request, 200, body))
            case "OPTIONS":
                self.ue.respond(key, request.reply(200))
            case _:
                self.ue.respond(key, request.reply(501))

    async def reinvite(self, *, remove: bool = False, deadline: float = 10.0) -> Response:
        """Offer the same again, or with ``remove`` the MSRP line with port 0. Raises :class:`SipFailure` or
        TimeoutError.
        """
        dialog = self._need_dialog()
        offer = self.media.again(remove=remove)
        headers = [("Contact", f"<{self.ue.contact_uri}>"), ("Content-Type", SDP)]
        request = dialog.make_request("INVITE", headers, offer)
        self.ue.add_security(request.headers)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def answered(response: Response | int) -> None:
            if isinstance(response, int):
                if not future.done():
                    future.set_exception(SipFailure(response, "no answer"))
            elif 200 <= response.status < 300:
                dialog.take_response(response)
                self.ue.send_ack(dialog.make_ack(response.cseq.number))
                if not future.done():
                    future.set_result(response)
            elif response.status >= 300 and not future.done():
                future.set_exception(SipFailure(response.status, response.reason, response))

        self.ue.send(request, answered)
        async with asyncio.timeout(deadline):
            return await future

    async def hangup(self, deadline: float = 5.0) -> int:
        """BYE (or CANCEL, or 603 before the answer); returns the status of the BYE, 0 where none was needed."""
        if self.ended.done():
            return 0
        if self._dialog is None:
            self.cancel() if self._client is not None else self.reject(603)
            return 0
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answered(response: Response | int) -> None:
            code = response if isinstance(response, int) else response.status
            if code >= 200 and not status.done():
                status.set_result(code)

        self.ue.send(self._dialog.make_request("BYE"), answered)
        self._end("we hung up")
        async with asyncio.timeout(deadline):
            return await status

    async def wait_end(self, deadline: float = 10.0) -> str:
        """Wait until the call is over; returns why."""
        async with asyncio.timeout(deadline):
            return await asyncio.shield(self.ended)

    def drop(self) -> None:
        """Forget the call without a word to the peer."""
        self._end("dropped")

    @property
    def dialog_id(self) -> DialogId | None:
        """The dialog, once there is one."""
        return self._dialog.id if self._dialog is not None else None

    def _need_dialog(self) -> Dialog:
        if self._dialog is None or self.ended.done():
            raise SipFailure(481, "the call is not established")
        return self._dialog

    def _end(self, why: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(why)
        self.media.close()
        self.ue.over(self)
