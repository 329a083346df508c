"""``agw show``: what a worker's admin socket answers, and how a person sees the answers of all workers."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from agw.core.engine import AgwEngine
from agw.core.model import Context
from agw.core.snapshot import context_row
from agw.settings import Settings
from agw.shell.executor import Executor
from agw.shell.tally import Tally
from imskit.admin import AdminError, Handler, Query, all_numbered, ask
from imskit.tables import octets, print_facts, print_json, print_table

type _Row = dict[str, Any]


def handlers(
    settings: Settings,
    engine: AgwEngine,
    executor: Executor,
    tally: Tally,
    now: Callable[[], float],
    expiry: Callable[[], Mapping[str, float]],
) -> Mapping[str, Handler]:
    """The commands of a worker's admin socket. ``now`` is the clock that the engine runs on."""
    began = now()
    store = engine.store

    def row(context: Context) -> _Row:
        return in_words(context_row(context, now(), tally.facts))

    def contexts(query: Query) -> object:
        rows = [row(context) for context in islice(store.contexts.values(), query.limit)]
        return {"gateway": engine.mid, "total": len(store.contexts), "contexts": rows}

    def context(query: Query) -> object:
        found = store.contexts.get(int(query.id)) if query.id.isascii() and query.id.isdecimal() else None
        if found is None:
            raise AdminError(f"no context {query.id!r} at {engine.mid}")
        return {"gateway": engine.mid, **row(found)}

    def worker(_: Query) -> object:
        return {
            "gateway": engine.mid,
            "pid": os.getpid(),
            "controller": settings.agw.controller,
            "in_service": engine.serving,
            "draining": engine.resting,
            "age": now() - began,
            "contexts": len(store.contexts),
            "sessions": executor.sessions,
            "half_open": executor.half_open,
            "free_ports": {
                name: engine.ports.free(name, now()) for name, one in settings.realm.items() if one.ports != "0"
            },
            "verified": tally.verifications["verified"],
            "refused": tally.verifications["mismatch"] + tally.verifications["missing"],
            "certificate_expiry": dict(expiry()),
        }

    return {"contexts": contexts, "context": context, "worker": worker}


def in_words(context: _Row) -> _Row:
    """A context with the security of its guarded terminations as the operator calls it: ``e2ae TLS 1.3 verified
    sha-256``."""
    guarded = []
    for leg in context["terminations"]:
        if leg["security"] != "plain":
            leg["security"] = f"e2ae {leg['security'].replace('TLSv', 'TLS ')}"
            guarded.append(leg["security"])
    context["security"] = "; ".join(guarded) or "plain"
    return context


def ask_all(socket: Path, query: Query, only: str = "") -> tuple[list[_Row], list[str]]:
    """The answers of all workers, or of the one that is called ``only``, and why the others did not answer. Raises
    :class:`AdminError` when none did."""
    answers: list[_Row] = []
    problems: list[str] = []
    paths = [socket] if socket.is_socket() else all_numbered(socket)
    for path in paths:
        try:
            if only and ask(path, Query("worker"), program="agw")["gateway"] != only:
                problems.append(f"{path} is not {only}")
                continue
            answers.append(ask(path, query, program="agw"))
        except AdminError as error:
            problems.append(str(error))
    if not paths:
        raise AdminError(
            f"{socket}: no worker has a socket there. Either agw does not run, or its settings name another "
            "admin socket"
        )
    if not answers:
        raise AdminError("\n".join(problems))
    return answers, problems


def show(socket: Path, command: str, id: str, limit: int, *, as_json: bool) -> list[str]:
    """Ask every worker and print; returns what went wrong beside that. Raises :class:`AdminError`.

    ``id`` is a context's number, for all workers that have it, or ``agw-1/4`` for that of one worker.
    """
    mid, _, number = id.rpartition("/")
    answers, problems = ask_all(socket, Query("worker" if command == "workers" else command, number, limit))
    if mid:
        answers = [one for one in answers if one["gateway"] == mid]
        if not answers:
            raise AdminError(f"no context {number!r} at {mid}")
    if command == "context":
        problems = [text for text in problems if not text.startswith("no context")]
    if as_json:
        print_json(answers)
    else:
        _PRINT[command](answers)
    return problems


def _contexts(answers: Sequence[_Row]) -> None:
    rows = [(one["gateway"], context) for one in answers for context in one["contexts"]]
    hidden = sum(one["total"] - len(one["contexts"]) for one in answers)
    print_table(
        ("Context", "Security", "State", "Age", "Terminations", "From UE", "From core"),
        [
            (
                f"{gateway}/{one['context']}",
                one["security"],
                one["state"],
                one["age"],
                "; ".join(f"{leg['realm']} {leg['peer'] or leg['local']} {leg['tcp']}" for leg in one["terminations"]),
                *(octets(one["terminations"][index]["received"]) for index in _from(one["terminations"])),
            )
            for gateway, one in rows
        ],
        empty="No contexts.",
        more=f"{hidden} more; --limit shows them." if hidden > 0 else "",
    )


def _from(legs: Sequence[_Row]) -> tuple[int, ...]:
    """The terminations of a context, the one with TLS first."""
    order = sorted(range(len(legs)), key=lambda index: legs[index]["security"] == "plain")
    return tuple(order[:2])


def _context(answers: Sequence[_Row]) -> None:
    for one in answers:
        facts: list[tuple[str, object]] = [("state", one["state"]), ("failure", one["failure"])]
        facts += [("age", one["age"]), ("security", one["security"])]
        facts += [("relaying for", one["relaying_for"]), ("silent for", one["idle"])]
        print_facts(f"Context {one['gateway']}/{one['context']}", facts)
        for leg in one["terminations"]:
            print_facts(
                f"  Termination {leg['termination']}",
                [
                    ("transport", f"{leg['proto']}, {leg['mode']}"),
                    ("local", leg["local"]),
                    ("signalled", leg["signalled"]),
                    ("peer", f"{leg['peer']} ({leg['direction']})" if leg["peer"] else ""),
                    ("TCP", leg["tcp"]),
                    ("security", leg["security"]),
                    ("suite", leg["cipher"]),
                    ("setup", leg["setup"]),
                    ("path", leg["path"]),
                    ("messages", f"{leg['rewritten']} rewritten, {leg['refused']} refused" if leg["path"] else ""),
                    ("source filter", leg["source_filter"]),
                    ("SYNs held", leg["syn_held"] or ""),
                    ("received", octets(leg["received"])),
                    ("sent", octets(leg["sent"])),
                    ("age", leg["age"]),
                ],
            )


def _workers(answers: Sequence[_Row]) -> None:
    print_table(
        ("Worker", "Process", "In service", "Age", "Contexts", "Sessions", "Half-open", "Free ports", "Refused"),
        [
            (
                one["gateway"],
                one["pid"],
                "drained" if one["draining"] else one["in_service"],
                one["age"],
                one["contexts"],
                one["sessions"],
                one["half_open"],
                ", ".join(f"{realm} {count}" for realm, count in one["free_ports"].items()) or "any",
                one["refused"],
            )
            for one in answers
        ],
        empty="No workers.",
    )


_PRINT: dict[str, Callable[[Sequence[_Row]], None]] = {
    "contexts": _contexts,
    "context": _context,
    "workers": _workers,
}
