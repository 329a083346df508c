"""What goes on within the dialog of a call: later offers by INVITE and UPDATE, PRACK, BYE; both directions."""

import asyncio
from typing import TYPE_CHECKING, Literal

from imslab.ue.media import CallMedia
from imslab.ue.options import NotAcceptable, Reoffer
from imslab.ue.reliable import ReliableSender
from imswire.base import ProtocolError
from imswire.sip.dialog import Dialog, DialogId
from imswire.sip.message import Request, Response
from imswire.sip.transaction import ServerKey

if TYPE_CHECKING:
    from imslab.ue.agent import UeAgent

SDP = "application/sdp"


class SipFailure(Exception):
    """A final response other than 2xx, or 408 and 503 where none came."""

    def __init__(self, status: int, reason: str = "", response: Response | None = None) -> None:
        warning = response.headers.get("warning") if response is not None else None
        why = f" ({warning[:300]})" if warning else ""
        super().__init__(f"{status} {reason}".strip() + why)
        self.status = status
        self.reason = reason
        self.response = response


class Dialogue:
    """The part of a call behind its INVITE. ``_offer`` says whose offer has no answer yet: ``ours``, ``theirs``, or
    nobody's.
    """

    def __init__(self, ue: "UeAgent", media: CallMedia) -> None:
        loop = asyncio.get_running_loop()
        self.ue = ue
        self.media = media
        self.end_reason = ""
        self.ended: asyncio.Future[str] = loop.create_future()
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.updates: list[bytes] = []
        self._dialog: Dialog | None = None
        self._established = False
        self._offer: Literal["", "ours", "theirs"] = ""
        self._sender: ReliableSender | None = None
        self._answered = asyncio.Event()

    @property
    def dialog_id(self) -> DialogId | None:
        """The dialog, once there is one."""
        return self._dialog.id if self._dialog is not None else None

    async def settled(self, deadline: float = 10.0) -> None:
        """Wait until an offer that we made in a 2xx has its answer; a new one would cross it. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while self._offer == "ours":
                self._answered.clear()
                await self._answered.wait()

    # --- requests that come ---

    def acknowledged(self, ack: Request) -> None:
        """An ACK for our 2xx came; it carries the answer where the 2xx carried our offer."""
        if self._offer == "ours" and ack.body:
            self._offer = ""
            self._answered.set()
            try:
                self.media.answered(ack.body)
            except (NotAcceptable, ProtocolError) as error:
                self.media.chat.fail(str(error))
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
            case "INVITE" | "UPDATE":
                self._offered(key, request)
            case "PRACK":
                self._pracked(key, request)
            case "OPTIONS":
                self.ue.respond(key, request.reply(200))
            case _:
                self.ue.respond(key, request.reply(501))

    def _offered(self, key: ServerKey, request: Request) -> None:
        """A re-INVITE or UPDATE, with an offer or (re-INVITE) asking for one."""
        if self._offer == "ours":
            self.ue.respond(key, request.reply(491))
        elif self._offer == "theirs":
            self.ue.respond(key, request.reply(500, headers=[("Retry-After", "1")]))
        elif request.body:
            self._answer_to(key, request)
        elif request.method == "INVITE":
            self._offer = "ours"
            self.ue.respond(key, self._reply(request, 200, self.media.again()))
        else:
            self.ue.respond(key, self._reply(request, 200))

    def _answer_to(self, key: ServerKey, request: Request) -> None:
        try:
            body = self.media.again(body=request.body)
        except (NotAcceptable, ProtocolError):
            self.media.withdraw()
            self.ue.respond(key, request.reply(488))
            return
        self.updates.append(request.body)
        self.ue.respond(key, self._reply(request, 200, body))
        self.media.confirmed()

    def _pracked(self, key: ServerKey, request: Request) -> None:
        if self._sender is None or not self._sender.acknowledged(request):
            self.ue.respond(key, request.reply(481))
        elif request.body and self._offer == "ours":
            self._offer = ""
            self.ue.respond(key, request.reply(200))
            self.media.answered(request.body)
        elif request.body:
            self._answer_to(key, request)
        else:
            self.ue.respond(key, request.reply(200))

    # --- requests that we send ---

    async def reinvite(self, *, remove: bool = False, deadline: float = 10.0) -> Response:
        """Offer the same again, or with ``remove`` every line with port 0. Raises what :meth:`reoffer` raises."""
        return await self.reoffer(Reoffer(remove=remove), deadline=deadline)

    async def hold(self, direction: Literal["inactive", "sendonly"] = "inactive", deadline: float = 10.0) -> Response:
        """Hold every line; connections stay."""
        return await self.reoffer(Reoffer(direction=direction), deadline=deadline)

    async def resume(self, deadline: float = 10.0) -> Response:
        """End the hold."""
        return await self.reoffer(Reoffer(direction="sendrecv"), deadline=deadline)

    async def reoffer(
        self,
        change: Reoffer | None = None,
        *,
        method: Literal["INVITE", "UPDATE"] = "INVITE",
        delayed: bool = False,
        deadline: float = 10.0,
    ) -> Response:
        """A later offer; ``delayed`` sends a re-INVITE without one and answers what comes in the 2xx.

        Raises :class:`SipFailure` (491 for glare), NotAcceptable where the answer is none, or TimeoutError.
        """
        dialog = self._need_dialog()
        headers = [("Contact", f"<{self.ue.contact_uri}>")]
        offer = b"" if delayed else self.media.again(change=change)
        if offer:
            headers.append(("Content-Type", SDP))
            self._offer = "ours"
        request = dialog.make_request(method, headers, offer)
        self.ue.add_security(request.headers)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        acks: list[Request] = []

        def answered(response: Response | int) -> None:
            if isinstance(response, int):
                if not future.done():
                    future.set_exception(SipFailure(response, "no answer"))
            elif 200 <= response.status < 300:
                if method == "INVITE":
                    if not acks:
                        dialog.take_response(response)
                        acks.append(self._ack(dialog, response, answering=delayed))
                    self.ue.send_ack(acks[0])
                if not future.done():
                    future.set_result(response)
            elif response.status >= 300 and not future.done():
                future.set_exception(SipFailure(response.status, response.reason, response))

        self.ue.send(request, answered)
        try:
            async with asyncio.timeout(deadline):
                response = await future
        except (SipFailure, TimeoutError):
            self.media.withdraw()
            raise
        finally:
            self._offer = ""
        if delayed:
            self.media.confirmed()
        elif response.body:
            self.media.answered(response.body)
        return response

    async def update(self, change: Reoffer | None = None, *, deadline: float = 10.0) -> Response:
        """An offer by UPDATE (RFC 3311), before or after the call is answered. Raises as :meth:`reoffer`."""
        return await self.reoffer(change, method="UPDATE", deadline=deadline)

    def _ack(self, dialog: Dialog, response: Response, *, answering: bool) -> Request:
        """The ACK to a 2xx, with the answer where the 2xx carries the offer. What cannot be accepted is refused line
        by line there: an ACK cannot be answered.
        """
        if not answering or not response.body:
            return dialog.make_ack(response.cseq.number)
        try:
            body = self.media.answer(response.body)
        except NotAcceptable as error:
            self.media.chat.fail(str(error))
            body = self.media.refuse(response.body)
        return dialog.make_ack(response.cseq.number, [("Content-Type", SDP)], body)

    async def _bye(self, dialog: Dialog, deadline: float) -> int:
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answered(response: Response | int) -> None:
            code = response if isinstance(response, int) else response.status
            if code >= 200 and not status.done():
                status.set_result(code)

        self.ue.send(dialog.make_request("BYE"), answered)
        self._end("we hung up")
        async with asyncio.timeout(deadline):
            return await status

    def _need_dialog(self) -> Dialog:
        if self._dialog is None or self.ended.done():
            raise SipFailure(481, "the call is not established")
        return self._dialog

    def _reply(self, request: Request, status: int, body: bytes = b"") -> Response:
        raise NotImplementedError

    def _end(self, why: str) -> None:
        raise NotImplementedError
