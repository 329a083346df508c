"""Which trace lines make one ladder: SIP call, passage through the IMS-ALG, H.248 transactions, AGW contexts.

A call between two UEs of the same P-CSCF passes it twice with one Call-ID: once from the caller to the core
(originating), once from the core to the called UE (terminating). Each passage is a ladder of its own, as the
contribution's figures have
it. Lines name their passage by ``call`` where the IMS-ALG writes its own key, else by the served user, else it is
worked
out from the order of the messages.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from imslab.ladder.describe import clean, is_core, items_of, tls_version
from imslab.ladder.model import Facts, Item, Ladder
from imslab.ladder.read import TraceLine

_TID_WINDOW = 60.0
"""Seconds within which one transaction id of one gateway means one transaction."""


class Passage:
    """The lines of one passage while they are being collected."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.lines: list[TraceLine] = []
        self.contexts: set[tuple[str, str]] = set()
        self.call: str = ""
        self.user: str = ""
        self.access_peers: set[str] = set()
        self.outgoing: bool | None = None

    def add(self, line: TraceLine) -> None:
        """Take a SIP line and learn from it who the passage serves."""
        self.lines.append(line)
        if line.call not in (None, ""):
            self.call = str(line.call)
        if line.user and not self.user:
            self.user = line.user
        if not is_core(line.realm) and line.peer:
            self.access_peers.add(line.peer)
        if self.outgoing is None:
            self.outgoing = (not is_core(line.realm)) == (line.dir == "in")


class _CallSorter:
    """Divides the SIP lines of one Call-ID into passages."""

    def __init__(self, call_id: str, lines: Sequence[TraceLine]) -> None:
        self.call_id = call_id
        self.lines = lines
        self.passages: list[Passage] = []
        self.open: dict[tuple[str, bool, bool], Passage] = {}

    def sort(self) -> list[Passage]:
        for index, line in enumerate(self.lines):
            passage = self._named(line) or self._by_order(index, line) or self._new()
            passage.add(line)
            if not _is_response(line):
                self.open[(line.cseq or "", is_core(line.realm), line.dir == "in")] = passage
        return self.passages

    def _new(self) -> Passage:
        passage = Passage(self.call_id)
        self.passages.append(passage)
        return passage

    def _named(self, line: TraceLine) -> Passage | None:
        if line.call not in (None, ""):
            return next((p for p in self.passages if p.call == str(line.call)), None) or self._new()
        if line.user:
            return next((p for p in self.passages if not p.call and p.user in (line.user, "")), None) or self._new()
        return None

    def _by_order(self, index: int, line: TraceLine) -> Passage | None:
        """Without a name: the access side by its peer, the core side by what it answers or belongs to."""
        if not is_core(line.realm):
            known = next((p for p in self.passages if line.peer in p.access_peers), None)
            if known is not None or line.dir == "in":
                return known
            return self._latest(line, incoming=True, core=True)
        if _is_response(line):
            return self.open.get((line.cseq or "", True, line.dir == "out"))
        if line.dir == "out":
            return self._latest(line, incoming=True, core=False)
        return self._followed(index, line)

    def _latest(self, line: TraceLine, *, incoming: bool, core: bool) -> Passage | None:
        for passage in reversed(self.passages):
            for earlier in reversed(passage.lines):
                same = earlier.cseq == line.cseq and (earlier.dir == "in") == incoming
                if same and is_core(earlier.realm) == core and not _is_response(earlier):
                    return passage
        return None

    def _followed(self, index: int, line: TraceLine) -> Passage | None:
        """A request from the core belongs to the UE that it is passed on to."""
        for later in self.lines[index + 1 :]:
            if later.cseq == line.cseq and later.dir == "out" and not is_core(later.realm) and not _is_response(later):
                return next((p for p in self.passages if later.peer in p.access_peers), None)
        return None


def _is_response(line: TraceLine) -> bool:
    return (line.summary or "")[:3].isdigit()


def _key(gateway: str | None, context: int | str | None) -> tuple[str, str] | None:
    if context is None or str(context) in ("$", "*", "-"):
        return None
    return (gateway or "", str(context))


class _Joiner:
    """Joins H.248 and media lines to passages, by the bind lines first and by order of events second."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.binds: dict[tuple[str, str], list[tuple[float, Passage]]] = {}
        self.transactions: dict[tuple[str, str], list[tuple[float, Passage]]] = {}
        self.keys: dict[str, Passage] = {}

    def by_call(self, line: TraceLine) -> Passage | None:
        """The passage a line of the IMS-ALG names; among those of one Call-ID, the one that last received a message."""
        key = "" if line.call is None else str(line.call)
        if key in self.keys:
            return self.keys[key]
        same = [p for p in self.passages if line.call_id and p.call_id == line.call_id]
        named = [p for p in same if p.call == key] if key else []
        if line.user:
            same = [p for p in same if p.user == line.user] or same
        # A passage belongs to one key of the IMS-ALG, so one that another key took already comes last.
        free = [p for p in same if p not in self.keys.values()] if key else same
        found = max(named or free or same, key=lambda p: _last_in(p, line.t), default=None)
        if key and found is not None:
            self.keys[key] = found
        return found

    def bind(self, line: TraceLine) -> None:
        key = _key(line.gateway, line.context)
        passage = self.by_call(line)
        if key is not None and passage is not None:
            self.binds.setdefault(key, []).append((line.t, passage))
            passage.contexts.add(key)

    def by_context(self, line: TraceLine, context: int | str | None) -> Passage | None:
        key = _key(line.gateway, context)
        bound = self.binds.get(key) if key is not None else None
        if not bound:
            return None
        index = bisect_right([t for t, _ in bound], line.t)
        return bound[max(0, index - 1)][1]

    def h248(self, line: TraceLine) -> Passage | None:
        contexts = [line.context, *(command.context for command in line.commands)]
        found = next((p for p in (self.by_context(line, c) for c in contexts) if p is not None), None)
        return found or self.by_call(line)

    def remember(self, line: TraceLine, passage: Passage) -> None:
        self.transactions.setdefault((line.gateway or "", str(line.tid)), []).append((line.t, passage))

    def by_transaction(self, line: TraceLine) -> Passage | None:
        known = self.transactions.get((line.gateway or "", str(line.tid)), ())
        near = [(abs(t - line.t), index) for index, (t, _) in enumerate(known) if abs(t - line.t) < _TID_WINDOW]
        return known[min(near)[1]][1] if near else None


def _last_in(passage: Passage, at: float) -> float:
    times = [line.t for line in passage.lines if line.kind == "sip" and line.dir == "in" and line.t <= at]
    return max(times, default=-1.0)


def build_ladders(lines: Iterable[TraceLine]) -> list[Ladder]:
    """All ladders in a merged trace, by their start; originating before terminating passage of the same call."""
    ordered = sorted(lines, key=lambda line: line.t)
    calls: dict[str, list[TraceLine]] = {}
    for line in ordered:
        if line.kind == "sip":
            calls.setdefault(line.call_id or "?", []).append(line)
    passages = [p for call_id, of_call in calls.items() for p in _CallSorter(call_id, of_call).sort()]
    joiner = _Joiner(passages)
    for line in ordered:
        if line.kind == "bind":
            joiner.bind(line)
        elif line.kind in ("h248", "call") and line.call is not None:
            joiner.by_call(line)
    unknown: list[TraceLine] = []
    loose: dict[tuple[str, str], Passage] = {}
    for line in ordered:
        match line.kind:
            case "h248":
                passage = joiner.h248(line)
                if passage is None:
                    unknown.append(line)
                else:
                    passage.lines.append(line)
                    joiner.remember(line, passage)
            case "call":
                passage = joiner.by_call(line)
                if passage is not None:
                    passage.lines.append(line)
            case "tcp" | "tls" | "verify" | "bytes":
                passage = joiner.by_context(line, line.context) or _loose(loose, line)
                if passage is not None:
                    passage.lines.append(line)
    for line in unknown:
        passage = joiner.by_transaction(line)
        if passage is not None:
            passage.lines.append(line)
    ladders = [_ladder(p) for p in [*passages, *loose.values()] if p.lines]
    return sorted(ladders, key=lambda ladder: ladder.started)


def _loose(loose: dict[tuple[str, str], Passage], line: TraceLine) -> Passage | None:
    key = _key(line.gateway, line.context)
    if key is None:
        return None
    passage = loose.setdefault(key, Passage(""))
    passage.contexts.add(key)
    return passage


def _ladder(passage: Passage) -> Ladder:
    lines = sorted(passage.lines, key=lambda line: line.t)
    sip = [line for line in lines if line.kind == "sip"]
    start = lines[0].t
    registration = bool(sip) and all("REGISTER" in (line.cseq or "") for line in sip)
    kind = (
        "media" if not sip else "registration" if registration else "originating" if passage.outgoing else "terminating"
    )
    several = len(passage.contexts) > 1
    items: list[Item] = []
    for line in lines:
        items += items_of(line, start, f" · C{line.context}" if several and line.context is not None else "")
    first_access = next((line.peer for line in sip if not is_core(line.realm) and line.peer), "") or ""
    first_core = next((line.peer for line in sip if is_core(line.realm) and line.peer), "") or ""
    gateways = sorted({line.gateway for line in lines if line.gateway})
    ue = {"terminating": "UE B", "originating": "UE A"}.get(kind, "UE")
    request = next((line.summary or "" for line in sip if not _is_response(line)), "")
    return Ladder(
        kind=kind,
        call_id=clean(passage.call_id),
        user=clean(passage.user, 60),
        target=clean(_target(request), 80),
        started=start,
        names=(f"{ue} {clean(passage.user, 24)}".rstrip(), "IMS-ALG", "IMS-AGW", "core"),
        addresses=(clean(first_access, 50), "P-CSCF", clean(", ".join(gateways), 50), clean(first_core, 50)),
        items=tuple(items),
        facts=_facts(lines),
    )


def _target(summary: str) -> str:
    return re.sub(r";.*", "", summary.partition(" ")[2].split(" ")[0])


def _facts(lines: Sequence[TraceLine]) -> Facts:
    tls = [line for line in lines if line.kind == "tls" and line.what == "handshake"]
    verify = [line for line in lines if line.kind == "verify"]
    relayed = [line for line in lines if line.kind == "bytes"]
    return Facts(
        tls=tuple(clean(f"{tls_version(line.version)} {line.cipher or ''}".rstrip()) for line in tls),
        verified=tuple(
            clean(f"{line.hash or ''} {line.seen or ''}".strip()) for line in verify if line.what == "verified"
        ),
        mismatched=tuple(
            clean(line.seen or "no certificate") for line in verify if line.what in ("mismatch", "missing")
        ),
        held=sum(max(1, line.count or 1) for line in lines if line.kind == "tcp" and line.what == "syn-held"),
        to_core=sum(line.a_to_c for line in relayed),
        to_access=sum(line.c_to_a for line in relayed),
    )
