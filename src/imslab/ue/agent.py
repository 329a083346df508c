"""A SIP user agent for the lab: registration with digest and mediasec, calls out and in. The library behind ``imslab
ue``.

Everything that waits has a deadline; nothing sleeps.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from imskit.clock import SystemIds
from imskit.contexts import client_context
from imskit.driver import spawn
from imskit.logs import get_logger
from imskit.tls import Identity
from imslab.sipnode import Answer, NoAck, SendAck, SendRequest, SipNode, UserMachine
from imslab.ue.account import Account, Registration, UeOptions
from imslab.ue.call import ALLOW, Call, SipFailure
from imslab.ue.options import MediaOptions
from imswire.base import ProtocolError
from imswire.sip import transaction as tx
from imswire.sip.auth import DigestClient
from imswire.sip.dialog import DialogId
from imswire.sip.flow import Flow, Transport
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.uri import SipUri, bracketed
from imswire.sip.values import parse_sec_mechanisms

__all__ = ["Account", "Registration", "SipFailure", "UeAgent", "UeOptions", "with_media"]

log = get_logger("imslab.ue")

REALM = "ue"


class UeAgent:
    """One UE with one contact. Use it as ``async with UeAgent(...) as ue`` or call :meth:`start` and :meth:`close`."""

    def __init__(self, account: Account, options: UeOptions | None = None, *, identity: Identity | None = None) -> None:
        self.account = account
        self.options = options or UeOptions()
        self.identity = identity or Identity.generate(account.user)
        self.registration: Registration | None = None
        self.calls: dict[str, Call] = {}
        self._incoming: asyncio.Queue[Call] = asyncio.Queue()
        self._ids = SystemIds()
        self._node: SipNode | None = None
        self._local: dict[str, tuple[str, int]] = {}
        self._responses: dict[tx.ClientKey, Callable[[Response | int], None]] = {}
        self._dialogs: dict[tuple[str, str], Call] = {}
        self._pending: dict[tx.ServerKey, Call] = {}
        self._digest = DigestClient(account.user, account.password, lambda: self._ids.token(8))
        self._security_server: tuple[str, ...] = ()
        self._register_id = self._ids.token(12)
        self._register_tag = self._ids.tag()
        self._register_cseq = 0
        self._refresh: asyncio.TimerHandle | None = None
        self._registrar = SipUri.parse(account.registrar)

    async def __aenter__(self) -> "UeAgent":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the sockets."""
        self._node = SipNode(UserMachine(self._ids, lambda flow: self._local[flow.transport]), self._told)
        for transport in ("udp", "tcp"):
            self._local[transport] = self._node.listen(REALM, transport, self.options.host, 0)
        # TLS has no listener here: the P-CSCF reaches the UE over the connection it registered on (RFC 5626).
        self._local["tls"] = self._local["tcp"]
        self._node.transports.set_client_context(
            REALM, client_context(ca=self.options.ca, verify=self.options.ca is not None, check_hostname=False)
        )

    async def close(self) -> None:
        """Drop every call without signalling and close the sockets."""
        if self._refresh is not None:
            self._refresh.cancel()
        for call in list(self.calls.values()):
            call.drop()
        if self._node is not None:
            await self._node.close()
            self._node = None

    # --- registration ---

    async def register(self, *, deadline: float = 10.0, expires: int | None = None, renew: bool = True) -> Registration:
        """Register the contact; raises :class:`SipFailure` with the final status, or TimeoutError."""
        wanted = self.options.expires if expires is None else expires
        async with asyncio.timeout(deadline):
            response = await self._transact(self._register_request(wanted))
            for _ in range(2):
                if response.status not in (401, 407):
                    break
                self._learn_security(response)
                challenges = response.headers.get_all("www-authenticate") + response.headers.get_all(
                    "proxy-authenticate"
                )
                wanted_algorithm = self.options.algorithm
                if wanted_algorithm:
                    challenges = [
                        c for c in challenges if f"algorithm={wanted_algorithm}".lower() in c.lower().split(", ")
                    ]
                if not self._digest.learn(challenges):
                    break
                response = await self._transact(self._register_request(wanted, authorize=True))
        if response.status != 200:
            raise SipFailure(response.status, response.reason, response)
        self._learn_security(response)
        challenge = self._digest.challenge
        self.registration = Registration(
            expires=self._granted(response, wanted),
            service_route=tuple(response.headers.values("service-route")),
            associated=tuple(response.headers.values("p-associated-uri")),
            security_server=self._security_server,
            agreed=self._agreed(),
            algorithm=challenge.algorithm if challenge is not None else "",
        )
        if renew and self.registration.expires > 0:
            self._renew_after(self.registration.expires / 2)
        return self.registration

    async def unregister(self, *, deadline: float = 5.0) -> None:
        """Remove the contact."""
        if self._refresh is not None:
            self._refresh.cancel()
        await self.register(deadline=deadline, expires=0, renew=False)
        self.registration = None

    def _agreed(self) -> frozenset[str]:
        theirs = parse_sec_mechanisms(self._security_server)
        return frozenset(one.name.lower() for one in theirs if one.media_plane) & set(self.options.mediasec)

    def _learn_security(self, response: Response) -> None:
        values = tuple(response.headers.values("security-server"))
        if values:
            self._security_server = values

    def _granted(self, response: Response, wanted: int) -> int:
        mine = SipUri.parse(self.contact_uri)
        for contact in response.contacts:
            if contact.uri and SipUri.parse(contact.uri).hostport == mine.hostport:
                text = contact.param("expires")
                if text and text.isdigit():
                    return int(text)
        return response.expires if response.expires is not None else (0 if wanted == 0 else wanted)

    def _renew_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._refresh is not None:
            self._refresh.cancel()
        self._refresh = loop.call_later(seconds, lambda: spawn(self._renew(), name=f"renew {self.account.user}"))

    async def _renew(self) -> None:
        try:
            await self.register()
        except (SipFailure, TimeoutError) as error:
            log.warning("registration not renewed", user=self.account.user, error=str(error))

    def _register_request(self, expires: int, *, authorize: bool = False) -> Request:
        uri = f"sip:{self.account.domain}"
        self._register_cseq += 1
        headers = Headers(
            [
                ("Max-Forwards", "70"),
                ("From", f"<{self.account.aor}>;tag={self._register_tag}"),
                ("To", f"<{self.account.aor}>"),
                ("Call-ID", self._register_id),
                ("CSeq", f"{self._register_cseq} REGISTER"),
                ("Contact", f"<{self.contact_uri}>;expires={expires}"),
                ("Supported", "path"),
            ]
        )
        if authorize:
            headers.add("Authorization", str(self._digest.authorize("REGISTER", uri)))
        if self.options.mediasec or self.options.signalling:
            # The list is announced again after a 401 (RFC 3329 2.3.1), now beside a copy of the network's own list.
            media = (f"{name};mediasec" for name in self.options.mediasec)
            headers.add("Security-Client", ", ".join((*self.options.signalling, *media)))
        self.add_security(headers)
        return Request("REGISTER", uri, headers)

    def add_security(self, headers: Headers) -> None:
        """Security-Verify and the option tags, for REGISTER and for dialog-forming requests."""
        if not self.options.mediasec and not self.options.signalling:
            return
        if self._security_server:
            headers.add("Security-Verify", ", ".join(self._security_server))
        elif "security-client" not in headers:
            return
        tags = "sec-agree, mediasec" if self.options.mediasec else "sec-agree"
        headers.add("Require", tags)
        headers.add("Proxy-Require", tags)

    # --- calls ---

    async def call(self, uri: str, media: MediaOptions | None = None, *, deadline: float = 15.0) -> Call:
        """Call and wait for the answer; raises :class:`SipFailure` (final status) or TimeoutError."""
        call = self.dial(uri, media)
        await call.answered(deadline)
        return call

    def dial(
        self,
        uri: str,
        media: MediaOptions | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        delayed: bool = False,
    ) -> Call:
        """Send an INVITE and return at once; follow the call with its ``answered``, ``ringing`` or ``cancel``.

        ``delayed`` sends no offer: the called side makes it and the ACK (or PRACK) carries the answer.
        """
        call = Call.outgoing(self, uri, media or self.options.media)
        self.calls[call.call_id] = call
        call.invite(headers, delayed=delayed)
        return call

    async def wait_call(self, deadline: float = 15.0) -> Call:
        """The next incoming call, not answered yet; raises TimeoutError."""
        async with asyncio.timeout(deadline):
            return await self.next_call()

    async def next_call(self) -> Call:
        """The next incoming call, however long that takes."""
        return await self._incoming.get()

    # --- what calls use ---

    @property
    def contact_uri(self) -> str:
        """The contact of this UE, with the transport it registers over."""
        host, port = self._local[self._transport()]
        suffix = "" if self._transport() == "udp" else f";transport={self._transport()}"
        return f"sip:{self.account.user}@{bracketed(host)}:{port}{suffix}"

    def route_set(self) -> tuple[str, ...]:
        """Route for a dialog-forming request: the P-CSCF, then the Service-Route (TS 24.229 5.1.2A.1)."""
        transport = "" if self._transport() == "udp" else f";transport={self._transport()}"
        first = f"<sip:{self._registrar.hostport}{transport};lr>"
        return (first, *(self.registration.service_route if self.registration is not None else ()))

    def new_ids(self) -> SystemIds:
        """The source of tags and tokens."""
        return self._ids

    def send(
        self,
        request: Request,
        answered: Callable[[Response | int], None],
        begun: Callable[[tx.ClientKey], None] = lambda _: None,
    ) -> None:
        """Send a request to the P-CSCF; ``answered`` gets each response, or 408 or 503 when there is none, ``begun``
        the transaction.
        """

        def started(key: tx.ClientKey) -> None:
            self._responses[key] = answered
            begun(key)

        self.post(SendRequest(request, self._flow(), started))

    def send_ack(self, request: Request) -> None:
        """Send an ACK to a 2xx."""
        self.post(SendAck(request, self._flow()))

    def respond(self, key: tx.ServerKey, response: Response) -> None:
        """Answer a request."""
        self.post(Answer(key, response))

    def post(self, event: object) -> None:
        """Hand an order to the transactions; after :meth:`close` nothing happens."""
        if self._node is not None:
            self._node.driver.post(event)  # type: ignore[arg-type]

    def joined(self, dialog: DialogId, call: Call) -> None:
        """A dialog of this call exists: its requests are handed to it."""
        self._dialogs[dialog.call_id, dialog.local_tag] = call

    def over(self, call: Call) -> None:
        """The call has ended."""
        self.calls.pop(call.call_id, None)
        for key in [key for key, value in self._dialogs.items() if value is call]:
            del self._dialogs[key]

    # --- inside ---

    def _transport(self) -> Transport:
        if self._registrar.scheme == "sips" or self._registrar.transport == "tls":
            return "tls"
        return "tcp" if self._registrar.transport == "tcp" else "udp"

    def _flow(self) -> Flow:
        if self._node is None:
            raise SipFailure(503, "the UE is closed")
        transport = self._transport()
        port = self._registrar.port or (5061 if transport == "tls" else 5060)
        return self._node.transports.flow_to(REALM, transport, (self._registrar.host, port))

    async def _transact(self, request: Request) -> Response:
        """One non-INVITE request and its final response."""
        future: asyncio.Future[Response | int] = asyncio.get_running_loop().create_future()

        def answered(response: Response | int) -> None:
            if not future.done() and (isinstance(response, int) or response.status >= 200):
                future.set_result(response)

        self.send(request, answered)
        result = await future
        if isinstance(result, int):
            raise SipFailure(result, "no answer")
        return result

    def _told(self, output: tx.Output | NoAck) -> None:
        match output:
            case tx.ResponseArrived(key, response, _):
                handler = self._responses.get(key)
                if handler is not None:
                    if key.method != "INVITE" and response.status >= 200:
                        del self._responses[key]
                    handler(response)
            case tx.ClientTimeout(key):
                self._unanswered(key, 408)
            case tx.ClientFailed(key):
                self._unanswered(key, 503)
            case tx.RequestArrived(key, request, _):
                self._request(key, request)
            case tx.AckArrived(request, _):
                call = self._dialogs.get((request.call_id, request.to_tag or ""))
                if call is not None:
                    call.acknowledged(request)
            case tx.CancelArrived(_, invite_key, _):
                call = self._pending.get(invite_key) if invite_key is not None else None
                if call is not None:
                    call.cancelled_by_peer()
            case NoAck(key):
                call = self._pending.get(key)
                if call is not None:
                    spawn(call.hangup(), name="no ACK")
            case _:
                pass

    def _unanswered(self, key: tx.ClientKey, status: int) -> None:
        handler = self._responses.pop(key, None)
        if handler is not None:
            handler(status)

    def _request(self, key: tx.ServerKey, request: Request) -> None:
        try:
            self._dispatch(key, request)
        except ProtocolError as error:
            log.warning("request refused", error=str(error))
            self.respond(key, request.reply(400))

    def _dispatch(self, key: tx.ServerKey, request: Request) -> None:
        call = self._dialogs.get((request.call_id, request.to_tag or ""))
        if call is not None:
            call.request(key, request)
        elif request.to_tag:
            self.respond(key, request.reply(481))
        elif request.method == "INVITE":
            self.respond(key, request.reply(100))
            incoming = Call.incoming(self, key, request, self.options.media)
            self.calls[incoming.call_id] = incoming
            self._pending[key] = incoming
            self._incoming.put_nowait(incoming)
        elif request.method == "OPTIONS":
            self.respond(key, request.reply(200, headers=[("Allow", ALLOW), ("Accept", "application/sdp")]))
        else:
            self.respond(key, request.reply(405, headers=[("Allow", ALLOW)]))


def with_media(options: UeOptions, **changes: object) -> UeOptions:
    """A copy of the options with media options changed."""
    return replace(options, media=replace(options.media, **changes))  # type: ignore[arg-type]
