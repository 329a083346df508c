"""``imsalg show``: what the admin socket answers, and how a person sees it."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imsalg.core import snapshot
from imsalg.core.engine import Engine
from imsalg.core.events import Event
from imsalg.core.media import MediaHalf
from imsalg.core.media_events import Inspect, Inspected
from imskit.admin import AdminError, Handler, Query, ask
from imskit.tables import duration, print_facts, print_json, print_table

type _Row = dict[str, Any]


GATEWAYS_WAIT = 1.0
"""Seconds that gateways have to tell what they know of a call; after that it is shown without."""


class Inspector:
    """Asks the media gateways through the engine: ``post`` takes the question, :meth:`told` its answer."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._last = 0
        self._waiting: dict[int, asyncio.Future[snapshot.Seen]] = {}

    async def look(self, calls: tuple[str, ...]) -> snapshot.Seen:
        """What the gateways say of TLS in these calls; nothing when they are silent."""
        self._last += 1
        token = self._last
        answer: asyncio.Future[snapshot.Seen] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            self._post(Inspect(token, calls))
            async with asyncio.timeout(GATEWAYS_WAIT):
                return await answer
        except TimeoutError:
            return {}
        finally:
            del self._waiting[token]

    def told(self, answer: Inspected) -> None:
        """The answer to one question."""
        waiting = self._waiting.get(answer.token)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.found)


def handlers(engine: Engine, media: MediaHalf, now: Callable[[], float], inspector: Inspector) -> Mapping[str, Handler]:
    """The commands of the admin socket. ``now`` is the clock that the engine runs on."""
    ctx = engine.context

    async def calls(query: Query) -> object:
        seen = await inspector.look(snapshot.keys(ctx, query.limit))
        return snapshot.calls(ctx, media, now(), query.limit, seen)

    async def call(query: Query) -> object:
        asked = tuple(one.key for one in snapshot.matching(ctx, query.id)) if query.id else ()
        found = snapshot.call(ctx, media, now(), query.id, await inspector.look(asked)) if asked else []
        if not found:
            raise AdminError(f"no call has the Call-ID or key {query.id!r}")
        return found

    def registrations(query: Query) -> object:
        return snapshot.registrations(ctx, now(), query.limit, query.id)

    def gateways(query: Query) -> object:
        return snapshot.gateways(media, now(), query.id)

    return {"calls": calls, "call": call, "registrations": registrations, "gateways": gateways}


def show(socket: Path, query: Query, *, as_json: bool) -> None:
    """Ask and print; raises :class:`AdminError`."""
    answer = ask(socket, query, program="imsalg")
    if as_json:
        print_json(answer)
    else:
        _PRINT[query.command](answer)


def _calls(answer: _Row) -> None:
    calls: list[_Row] = answer["calls"]
    hidden = answer["total"] - len(calls)
    print_table(
        ("Call-ID", "User", "Direction", "State", "Age", "Gateway", "Media"),
        [
            (
                one["call_id"],
                one["user"],
                one["direction"],
                one["state"],
                one["age"],
                one["gateway"],
                "; ".join(_line(line) for line in one["lines"]),
            )
            for one in calls
        ],
        empty="No calls.",
        more=f"{hidden} more; --limit shows them." if hidden > 0 else "",
    )


def _line(line: _Row) -> str:
    where = f" (context {line['context']})" if line.get("context") else ""
    return f"{line['index'] + 1} {line['medium']}: {line['security']}{where}"


def _call(answer: list[_Row]) -> None:
    for one in answer:
        print_facts(
            f"Call {one['call_id']} ({one['direction']}, served user {one['user'] or 'unknown'})",
            [
                ("state", f"{one['state']}, media {one['media']}"),
                ("age", one["age"]),
                ("caller", one["caller"]),
                ("called", one["called"]),
                ("key", one["key"]),
                ("access", f"{one['realms']['access']}: {one['flows'].get('access', '-')}"),
                ("core", f"{one['realms']['core']}: {one['flows'].get('core', '-')}"),
                ("agreed", one["agreed"] or "nothing (no mediasec at registration)"),
                ("gateway", one["gateway"]),
                ("under way", f"{one['requests_under_way']} requests" if one["requests_under_way"] else ""),
            ],
        )
        for line in one["lines"]:
            facts: list[tuple[str, object]] = [("security", line["security"]), ("transport", line["proto"])]
            if (tls := line.get("tls")) and tls["cipher"]:
                facts.append(("suite", tls["cipher"]))
            if further := line.get("further_answers"):
                facts.append(("early answers", f"{len(further)} more, at {', '.join(further)}"))
            for side in ("access", "core"):
                if end := line.get(side):
                    facts.append((side, _end(end)))
            where = f", context {line['context']} at {line['gateway']}" if line.get("context") else ""
            print_facts(f"  Line {line['index'] + 1}: {line['medium']}{where}", facts)


def _end(end: _Row) -> str:
    prints = f", fingerprints {', '.join(end['fingerprints'])}" if end["fingerprints"] else ""
    setup = f", setup {end['setup']}" if end["setup"] else ""
    return f"{end['proto']} {end['local'] or '?'} <-> {end['remote'] or '?'}{setup}{prints}"


def _registrations(answer: _Row) -> None:
    rows: list[_Row] = answer["registrations"]
    hidden = answer["total"] - len(rows)
    print_table(
        ("Address of record", "Contact", "Realm", "Flow", "Media security", "Expires in"),
        [
            (
                one["aor"],
                one["contact"],
                one["realm"],
                one["flow"] or "gone",
                one["agreed"] or "none",
                one["expires"],
            )
            for one in rows
        ],
        empty="No registrations.",
        more=f"{hidden} more; --limit shows them." if hidden > 0 else "",
    )


def _gateways(answer: list[_Row]) -> None:
    print_table(
        ("Gateway", "State", "Peer", "Contexts", "Asked for", "Transactions", "Heard"),
        [
            (
                one["mid"],
                one["state"]
                + (f" (given up in {duration(one['given_up_in'])})" if one["given_up_in"] is not None else ""),
                one["peer"],
                one["contexts"],
                one["reserving"],
                one["transactions"],
                f"{duration(one['heard'])} ago",
            )
            for one in answer
        ],
        empty="No media gateway has announced itself.",
    )


def _state(answer: _Row) -> None:
    if answer["store"] == "memory":
        print_facts("State is kept in memory only: a restart begins without registrations and calls.", [])
        return
    facts = [
        ("records", answer["records"]),
        ("not written yet", answer["pending"]),
        ("transactions", answer["commits"]),
        ("last one took", f"{1000 * answer['last_commit']:.1f} ms"),
        ("failed", answer["failures"]),
        ("records left out", answer["left_out"]),
    ]
    print_facts("State for the next start", facts)


def _drain(answer: _Row) -> None:
    if not answer["draining"]:
        print_facts("New calls are taken.", [])
        return
    end = "" if answer["seconds"] is None else f"; what is left in {duration(answer['seconds'])} is released"
    print_facts(f"New calls are refused. {answer['calls']} calls in progress{end}.", [])


def _reload(answer: _Row) -> None:
    print_facts("Reloaded.", [("changed", one) for one in answer["changed"]] or [("changed", "nothing")])


_PRINT: dict[str, Callable[[Any], None]] = {
    "reload": _reload,
    "state": _state,
    "drain": _drain,
    "undrain": _drain,
    "calls": _calls,
    "call": _call,
    "registrations": _registrations,
    "gateways": _gateways,
}
