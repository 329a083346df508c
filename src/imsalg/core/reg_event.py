"""Subscription to the registration state of registered users (RFC 3680, TS 24.229 5.2.3).

After a 200 to REGISTER the P-CSCF subscribes to the event package ``reg`` of the user's default identity and so learns
when the network ends a registration: the binding goes, and its calls are released (TS 24.229 5.2.8.1). A core that does
not know the package is remembered and left in peace for a while; nothing else depends on the subscription.
"""

from imsalg.core.asserting import VECTOR
from imsalg.core.bindings import Binding, contact_key, identity_key
from imsalg.core.context import Context
from imsalg.core.deadlines import Deadlines
from imsalg.core.media_events import Side
from imsalg.core.reg_subscription import BRIEF, FLOOR, State, Subscription
from imsalg.core.release import Release
from imsalg.core.routing import Way, next_uri
from imsalg.core.sip_call import Answer, Forward, Purpose, flow_of
from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.reginfo import CONTENT_TYPE, ContactInfo, RegInfo, RegistrationInfo, parse_reginfo
from imswire.sip.transaction import ServerKey
from imswire.sip.values import NameAddr

EVENT = "reg"
NOT_THERE = frozenset({405, 420, 489, 501})
"""Answers that say that the core does not know the package (RFC 6665 4.1.2): it is not asked for other users either."""
SOON = 5.0
"""Seconds after which a subscription that the notifier ended for no lasting reason is asked for again, at the least."""


RESUMED = 100.0
"""Subscriptions that are asked for in a second after a restart."""


class RegEvents:
    """All subscriptions, by user and by Call-ID."""

    def __init__(self, ctx: Context, release: Release) -> None:
        self._ctx = ctx
        self._release = release
        self._settings = ctx.settings.reg_event
        self._by_aor: dict[str, Subscription] = {}
        self._by_call: dict[str, Subscription] = {}
        self._unknown_until: dict[str, float] = {}
        self._timers: Deadlines[str] = Deadlines()

    def __len__(self) -> int:
        return len(self._by_aor)

    def state_of(self, aor: str) -> str:
        """For people: "active", "asked", "resting", or "" without a subscription."""
        found = self._by_aor.get(aor)
        return found.state.name.lower() if found is not None else ""

    # --- what registration tells ---

    def registered(self, binding: Binding, response: Response) -> None:
        """A 200 to REGISTER has made or refreshed a binding."""
        wanted = self._settings.subscribe
        if wanted == "off" or binding.emergency:  # TS 24.229 5.2.10: none for emergency registrations
            return
        found = self._by_aor.get(binding.aor)
        if found is not None:
            found.service_route = binding.service_route
            if found.state is not State.RESTING:
                self._timers.set(binding.aor, found.refresh_at or self._ctx.now + self._ctx.settings.timers.t64)
            return
        if wanted == "offered" and not _offered(response):
            return
        if self._unknown_until.get(binding.profile.core_realm, 0.0) > self._ctx.now:
            return
        if len(self._by_aor) >= self._ctx.settings.limits.bindings:
            return
        try:
            made = Subscription(binding, self._ctx.ids.token(16), self._ctx.ids.tag())
        except ProtocolError:  # a default identity that cannot be read cannot be subscribed to
            return
        self._by_aor[made.aor] = made
        self._by_call[made.call_id] = made
        self._subscribe(made)

    def resumed(self, binding: Binding) -> None:
        """A binding of an earlier process, whose subscription was another dialog: a new one is asked for.

        One after the other, some time apart, since all of them come at once.
        """
        if self._settings.subscribe == "off" or binding.aor in self._by_aor:
            return
        try:
            made = Subscription(binding, self._ctx.ids.token(16), self._ctx.ids.tag())
        except ProtocolError:
            return
        self._by_aor[made.aor] = made
        self._by_call[made.call_id] = made
        self._rest(made, len(self._by_aor) / RESUMED)

    def unbound(self, binding: Binding) -> None:
        """A binding is gone; with the last one the subscription waits for the final NOTIFY only."""
        if binding.aor in self._by_aor and not self._ctx.registrar.of(binding.aor):
            self._timers.set(binding.aor, self._ctx.now + self._ctx.settings.timers.t64)

    # --- time ---

    def next_timer(self) -> float | None:
        """When a subscription is to be refreshed, asked for again or forgotten."""
        return self._timers.next_timer()

    def expire(self, now: float) -> None:
        """Run what is due."""
        for aor in self._timers.expire(now):
            found = self._by_aor.get(aor)
            if found is None:
                continue
            if not self._ctx.registrar.of(aor):
                self._forget(found)
                continue
            if found.state is State.RESTING:
                if self._unknown_until.get(found.core_realm, 0.0) > now:
                    self._forget(found)
                    continue
                self._again(found)
            self._subscribe(found)

    def _again(self, found: Subscription) -> None:
        """A dialog that is over is followed by a new one."""
        del self._by_call[found.call_id]
        found.renewed(self._ctx.ids.token(16), self._ctx.ids.tag())
        self._by_call[found.call_id] = found

    def _forget(self, found: Subscription) -> None:
        self._by_aor.pop(found.aor, None)
        self._by_call.pop(found.call_id, None)
        self._timers.discard(found.aor)

    def _rest(self, found: Subscription, seconds: float) -> None:
        found.state = State.RESTING
        self._timers.set(found.aor, self._ctx.now + seconds)

    # --- SUBSCRIBE ---

    def _subscribe(self, found: Subscription, expires: int | None = None) -> None:
        ctx = self._ctx
        asked = self._settings.expires if expires is None else expires
        # Nothing refreshes what has no answer: timer F ends the request, and the answer sets the time anew.
        found.asked_at, found.refresh_at = ctx.now, 0.0
        self._timers.set(found.aor, ctx.now + 2 * ctx.settings.timers.t64)
        try:
            request, way = self._request(found, asked)
            forward = Forward(None, request, request, way, Side.ACCESS, purpose=Purpose.SUBSCRIBE)
            ctx.register_forward(forward)
            ctx.send(forward)
        except (Answer, LimitExceeded, ProtocolError) as error:
            ctx.log("warning", "registration state cannot be subscribed to", user=found.identity, error=str(error))
            self._rest(found, self._settings.retry_after)

    def _request(self, found: Subscription, expires: int) -> tuple[Request, Way]:
        ctx = self._ctx
        found.cseq += 1
        me = f"<sip:{ctx.settings.imsalg.name}>"
        routes = found.routes
        if not found.remote and self._settings.route == "service-route":
            routes = list(found.service_route)
        headers = Headers([("Max-Forwards", "70"), *(("Route", value) for value in routes)])
        headers.add("From", f"{me};tag={found.tag}")
        headers.add("To", found.remote or f"<{found.identity}>")
        headers.add("Call-ID", found.call_id)
        headers.add("CSeq", f"{found.cseq} SUBSCRIBE")
        headers.add("Event", EVENT)
        headers.add("Accept", CONTENT_TYPE)
        headers.add("Expires", str(expires))
        request = Request("SUBSCRIBE", found.target, headers)
        if not found.remote and not routes:
            way = ctx.network.next_hop(found.core_realm)
        else:
            way = ctx.network.resolve(next_uri(request), found.core_realm)
        headers.add("Contact", ctx.network.face(flow_of(way)).contact)
        headers.add("P-Asserted-Identity", me)
        if vector := ctx.asserting.vector_of_dialog(found.call_id):
            headers.add(VECTOR, vector)
        return request, way

    def answered(self, forward: Forward, response: Response) -> None:
        """A response to a SUBSCRIBE of ours."""
        if response.status < 200:
            return
        self._ctx.drop_forward(forward)
        found = self._by_call.get(forward.outgoing.call_id)
        if found is None or found.state is State.RESTING:
            return
        status = response.status
        if status < 300:
            self._accepted(found, response)
        elif status == 423 and (least := _seconds(response.headers.get("min-expires"))) and not found.remote:
            if least > self._settings.expires and not found.lengthened:
                found.lengthened = True
                self._subscribe(found, least)
            else:
                self._refused(found, status)
        elif status == 481 and found.remote:  # the notifier has forgotten the dialog (RFC 6665 4.1.2.2)
            self._rest(found, SOON)
        else:
            self._refused(found, status)

    def failed(self, forward: Forward) -> None:
        """A SUBSCRIBE of ours has no answer."""
        self._ctx.drop_forward(forward)
        found = self._by_call.get(forward.outgoing.call_id)
        if found is not None and found.state is not State.RESTING:
            self._refused(found, 408)

    def _refused(self, found: Subscription, status: int) -> None:
        ctx, again = self._ctx, self._settings.retry_after
        if status in NOT_THERE:
            self._unknown_until[found.core_realm] = ctx.now + again
            ctx.log("info", "the core does not tell of registration state", realm=found.core_realm, status=status)
            self._forget(found)
            return
        ctx.log("info", "registration state is not told", user=found.identity, status=status)
        self._rest(found, again)

    def _accepted(self, found: Subscription, response: Response) -> None:
        granted = response.expires
        if granted is not None and granted < BRIEF:  # over before it began, or nearly so
            self._refused(found, response.status)
            return
        self._until(found, self._settings.expires if granted is None else granted)
        if not found.remote:
            found.remote = response.need("to")
            found.routes = response.headers.values("record-route")[::-1]
        if contact := response.headers.first_value("contact"):
            found.target = NameAddr.parse(contact).uri

    def _until(self, found: Subscription, seconds: float) -> None:
        """The subscription lasts that long: refresh it in time."""
        found.lasts(seconds, self._ctx.now, self._ctx.settings.timers.t64)
        self._timers.set(found.aor, found.refresh_at)

    # --- NOTIFY ---

    def owns(self, request: Request, side: Side) -> bool:
        """True for a NOTIFY in a subscription of ours."""
        return side is Side.CORE and request.headers.get("call-id") in self._by_call

    def notified(self, key: ServerKey, request: Request) -> None:
        """A NOTIFY of ours; raises Answer or ProtocolError where it is refused."""
        ctx = self._ctx
        found = self._by_call[request.call_id]
        if found.state is State.RESTING or request.to_tag != found.tag:
            raise Answer(481)
        remote = request.need("from")
        if found.remote and NameAddr.parse(remote).tag != NameAddr.parse(found.remote).tag:
            raise Answer(481)  # RFC 3680 4.9: no forking
        if (request.headers.get("event") or "").partition(";")[0].strip().lower() != EVENT:
            raise Answer(489, headers=(("Allow-Events", EVENT),))
        if request.cseq.number <= found.remote_cseq:
            raise Answer(500, "CSeq is not above the last one")
        info = None
        if request.body:
            if request.content_type != CONTENT_TYPE:
                raise Answer(415, headers=(("Accept", CONTENT_TYPE),))
            info = parse_reginfo(request.body)
        found.remote_cseq = request.cseq.number
        if not found.remote:
            found.remote = remote
            found.routes = request.headers.values("record-route")
            if contact := request.headers.first_value("contact"):
                found.target = NameAddr.parse(contact).uri
        ctx.respond(key, request.reply(200))
        ended = self._state(found, request.headers.get("subscription-state") or "")
        if info is not None:
            self._news(found, info, ended=ended)
        if ended and not ctx.registrar.of(found.aor):
            self._forget(found)

    def _state(self, found: Subscription, text: str) -> bool:
        """Subscription-State (RFC 6665 4.1.3); True when the subscription is over."""
        state, _, rest = text.partition(";")
        params = dict(part.strip().partition("=")[::2] for part in rest.lower().split(";"))
        seconds = _seconds(params.get("expires"))
        if state.strip().lower() != "terminated":
            if seconds == 0:
                self._rest(found, FLOOR)
                return True
            if seconds is not None:
                found.told(min(seconds, self._settings.expires), self._ctx.now, self._ctx.settings.timers.t64)
                if found.refresh_at:
                    self._timers.set(found.aor, found.refresh_at)
            return False
        if params.get("reason") in ("rejected", "noresource", "invariant"):
            self._rest(found, self._settings.retry_after)
        else:  # deactivated, timeout, probation, giveup: ask again, if anybody is still registered by then
            self._rest(found, max(_seconds(params.get("retry-after")) or 0, SOON))
        return True

    def _news(self, found: Subscription, info: RegInfo, *, ended: bool) -> None:
        """RFC 3680 5.2: partial documents build on one another."""
        if info.version <= found.version:
            return
        gap = not info.full and info.version != found.version + 1
        found.version = info.version
        for one in info.registrations:
            self._registration(found, one)
        if gap and not ended and self._ctx.now >= found.again_at and self._ctx.registrar.of(found.aor):
            found.again_at = self._ctx.now + FLOOR
            self._subscribe(found)  # a refresh brings the full state

    def _registration(self, found: Subscription, one: RegistrationInfo) -> None:
        key = identity_key(one.aor)
        told = {contact_key(contact.uri): contact for contact in one.contacts}
        for binding in self._ctx.registrar.of(found.aor):
            if key != binding.aor and key != identity_key(found.identity):
                if one.state == "terminated" and binding.forget_identity(one.aor):
                    self._ctx.registrar.mark(binding)
                    self._ctx.log("info", "an identity is no longer registered", user=binding.user, identity=one.aor)
                continue
            contact = told.get(binding.key[1])
            if one.state == "terminated" or (contact is not None and contact.state == "terminated"):
                self._ended(binding, contact)
            elif contact is not None and contact.event == "shortened" and contact.expires is not None:
                self._ctx.registrar.shorten(binding, self._ctx.now + contact.expires)

    def _ended(self, binding: Binding, contact: ContactInfo | None) -> None:
        """The network ended a registration: the binding goes, and what runs over it (TS 24.229 5.2.3, 5.2.8.1)."""
        ctx = self._ctx
        cause = contact.event if contact is not None else "terminated"
        ctx.registrar.remove(binding)
        ctx.stats.network_deregistrations += 1
        calls = ctx.calls_of(binding)
        ctx.log(
            "info",
            "de-registered by the network",
            user=binding.user,
            contact=binding.contact,
            cause=cause,
            calls=len(calls),
        )
        for call in calls:
            self._release.give_up(call, Answer(480, "the network ended the registration"))
        self.unbound(binding)


def _offered(response: Response) -> bool:
    return any(value.lower() == EVENT for value in response.headers.values("allow-events"))


def _seconds(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return int(text)
