"""The lab core's notifier of registration state (RFC 3680 over RFC 6665): who watches whom, what they are told. Pure.

The first NOTIFY of a subscription, and that of a refresh, tells the full state; what changes is told by partial ones.
"""

from collections.abc import Iterable

from imswire.sip.headers import Headers
from imswire.sip.message import Request, Response
from imswire.sip.reginfo import CONTENT_TYPE, ContactInfo, RegInfo, RegistrationInfo, write_reginfo
from imswire.sip.transaction import IdSource
from imswire.sip.values import NameAddr

_WATCHERS = 10_000
_LONGEST = 600_000


class Watcher:
    """One subscription, seen from the notifier: a dialog with the subscriber as remote end."""

    def __init__(self, user: str, request: Request, tag: str, contact: str, expires_at: float) -> None:
        self.user = user
        self.call_id = request.call_id
        self.tag = tag
        self.local = f"{request.need('to')};tag={tag}"
        self.remote = request.need("from")
        self.target = NameAddr.parse(request.need("contact")).uri
        self.routes = request.headers.values("record-route")
        self.contact = contact
        self.cseq = 0
        self.version = -1
        self.expires_at = expires_at


class Notifier:
    """Keeps the watchers; ``domain`` completes users to addresses of record."""

    def __init__(self, domain: str, ids: IdSource) -> None:
        self._domain = domain
        self._ids = ids
        self._watchers: dict[str, Watcher] = {}

    @staticmethod
    def wanted(request: Request) -> bool:
        """True for a SUBSCRIBE to the event package ``reg``."""
        event = (request.headers.get("event") or "").partition(";")[0].strip().lower()
        return request.method == "SUBSCRIBE" and event == "reg"

    def subscribe(
        self, request: Request, contacts: Iterable[ContactInfo], contact: str, now: float
    ) -> tuple[Response, Request | None]:
        """Answer a SUBSCRIBE, new or refreshing; the NOTIFY that follows it at once, if the answer is a 200.

        ``contacts`` are those of the user; ``contact`` is the notifier's own Contact value.
        """
        asked = request.expires
        seconds = _LONGEST if asked is None else min(asked, _LONGEST)
        watcher = self._watchers.get(request.call_id)
        if request.to_tag is not None:
            if watcher is None or watcher.tag != request.to_tag:
                return request.reply(481), None
            watcher.expires_at = now + seconds
        else:
            if len(self._watchers) >= _WATCHERS:
                return request.reply(503), None
            user = request.to.sip_uri.user or ""
            watcher = Watcher(user, request, self._ids.tag(), contact, now + seconds)
            self._watchers[watcher.call_id] = watcher
        answer = request.reply(200, to_tag=watcher.tag, headers=[("Expires", str(seconds)), ("Contact", contact)])
        found = tuple(contacts)
        state = "active" if found else "init"
        notify = self._notify(watcher, state, found, now, full=True, reason="timeout" if seconds == 0 else "")
        if seconds == 0:
            del self._watchers[watcher.call_id]
        return answer, notify

    def user_of(self, call_id: str) -> str | None:
        """Whom the subscription with that Call-ID is about."""
        watcher = self._watchers.get(call_id)
        return watcher.user if watcher is not None else None

    def changed(self, user: str, contacts: Iterable[ContactInfo], now: float) -> list[Request]:
        """What watchers of ``user`` are told of these contacts; a user without an active one ends subscriptions."""
        told = tuple(contacts)
        over = not any(one.state == "active" for one in told)
        requests = []
        for watcher in [one for one in self._watchers.values() if one.user == user]:
            if watcher.expires_at <= now:
                del self._watchers[watcher.call_id]
                continue
            state = "terminated" if over else "active"
            reason = "noresource" if over else ""
            requests.append(self._notify(watcher, state, told, now, full=False, reason=reason))
            if over:
                del self._watchers[watcher.call_id]
        return requests

    def refused(self, call_id: str) -> None:
        """The subscriber does not know the subscription any more."""
        self._watchers.pop(call_id, None)

    def _notify(
        self, watcher: Watcher, state: str, contacts: tuple[ContactInfo, ...], now: float, *, full: bool, reason: str
    ) -> Request:
        watcher.cseq += 1
        watcher.version += 1
        left = max(0, round(watcher.expires_at - now))
        headers = Headers([("Max-Forwards", "70"), *(("Route", value) for value in watcher.routes)])
        headers.add("From", watcher.local)
        headers.add("To", watcher.remote)
        headers.add("Call-ID", watcher.call_id)
        headers.add("CSeq", f"{watcher.cseq} NOTIFY")
        headers.add("Contact", watcher.contact)
        headers.add("Event", "reg")
        headers.add("Subscription-State", f"terminated;reason={reason}" if reason else f"active;expires={left}")
        headers.add("Content-Type", CONTENT_TYPE)
        aor = f"sip:{watcher.user}@{self._domain}"
        body = write_reginfo(RegInfo(watcher.version, full, (RegistrationInfo(aor, "r1", state, contacts),)))
        return Request("NOTIFY", watcher.target, headers, body)
