"""From one trace line to what the ladder shows of it: labels and direction, no layout."""

import re

from imslab.ladder.model import Arrow, Column, Item, Note, Tone
from imslab.ladder.read import Command, TraceLine

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_FINGERPRINT = re.compile(r"((?:[0-9A-Fa-f]{2}:){3}[0-9A-Fa-f]{2})(?::[0-9A-Fa-f]{2})+")
_SHORT = {"MODIFY": "MOD", "SUBTRACT": "SUB", "SERVICECHANGE": "SVC", "AUDITVALUE": "AUDIT", "NOTIFY": "NTFY"}


def clean(text: str, limit: int = 160) -> str:
    """Text from the wire made harmless for a terminal: no control or direction characters, bounded in length."""
    text = _UNPRINTABLE.sub("·", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def short_fingerprints(text: str) -> str:
    """Fingerprints cut to their first four octets: ``SHA-256 A1:B2:C3:D4…``."""
    return _FINGERPRINT.sub(r"\1…", text)


def is_core(realm: str | None) -> bool:
    """True for the core side; every other realm is drawn towards the UE."""
    return bool(realm) and str(realm).lower().startswith("core")


def outer_column(realm: str | None) -> Column:
    """The column beyond the access edge on that realm: the UE or the core."""
    return Column.CORE if is_core(realm) else Column.UE


def sip_tone(summary: str) -> Tone:
    """Requests, provisional, successful and failed responses differ in colour."""
    match summary[:1] if summary[:3].isdigit() else "":
        case "1":
            return Tone.PROVISIONAL
        case "2":
            return Tone.SUCCESS
        case "":
            return Tone.REQUEST
        case _:
            return Tone.FAILURE


def sip_item(line: TraceLine, start: float) -> Item:
    """A SIP message between the IMS-ALG and the outside, with what its SDP says of the media."""
    outer = outer_column(line.realm)
    summary = clean(line.summary or "?")
    tone = sip_tone(summary)
    method = (line.cseq or "").partition(" ")[2]
    if tone is not Tone.REQUEST and method not in ("", "INVITE"):
        summary = f"{summary} ({clean(method, 20)})"
    source, target = (outer, Column.ALG) if line.dir == "in" else (Column.ALG, outer)
    details = tuple(clean(short_fingerprints(entry).replace("fingerprint:", "fp:")) for entry in line.sdp)
    return Arrow(at=line.t - start, source=source, target=target, title=summary, details=details, tone=tone)


def _verb(command: Command) -> str:
    name = command.command.upper()
    return _SHORT.get(name, name)


def _command_text(command: Command, *, verb: bool) -> str:
    where = [_verb(command)] if verb else []
    if command.context is not None:
        where.append(f"C={command.context}")
    if command.termination:
        where.append(f"T={command.termination}")
    return clean(" ".join([*where, *(short_fingerprints(field) for field in command.fields)]), 240)


def h248_item(line: TraceLine, start: float) -> Item:
    """An H.248 transaction message, one detail line per command: ``H.248 ADD ×2 req [1001]``, ``C=1 T=core/1 L=…``."""
    kind = {"request": "req", "reply": "resp"}.get(line.type or "", clean(line.type or "message", 20))
    names: dict[str, int] = {}
    for command in line.commands:
        names[_verb(command)] = names.get(_verb(command), 0) + 1
    listed = ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in names.items())
    number = f" [{line.tid}]" if line.tid is not None else ""
    title = clean(" ".join(part for part in ("H.248", listed, kind) if part) + number)
    source, target = (Column.AGW, Column.ALG) if line.dir == "in" else (Column.ALG, Column.AGW)
    failed = any("error" in field.lower() for command in line.commands for field in command.fields)
    details = tuple(_command_text(command, verb=len(names) > 1) for command in line.commands)
    tone = Tone.FAILURE if failed else Tone.H248
    return Arrow(at=line.t - start, source=source, target=target, title=title, details=details, tone=tone)


def tcp_items(line: TraceLine, start: float, mark: str) -> list[Item]:
    """What happened to a TCP leg: held and accepted SYNs come from outside, dialled ones go out."""
    at = line.t - start
    outer = outer_column(line.realm)
    peer = clean(line.peer or "", 60)
    where = (peer,) if peer else ()
    match line.what:
        case "syn-held":
            held = f"held ×{line.count}" if line.count else "held"
            return [
                Arrow(at, outer, Column.AGW, f"TCP SYN {held}{mark}", (), Tone.HELD, lost=True),
            ]
        case "accepted":
            return [Arrow(at, outer, Column.AGW, f"TCP SYN … connected{mark}", where, Tone.TCP)]
        case "dialling":
            return [Arrow(at, Column.AGW, outer, f"TCP SYN{mark}", where, Tone.TCP)]
        case "connected":
            return [Arrow(at, outer, Column.AGW, f"TCP SYN ACK{mark}", (), Tone.TCP)]
        case "refused" | "failed":
            cause = line.reason or line.text
            why = (clean(cause),) if cause else ()
            return [Arrow(at, outer, Column.AGW, f"TCP {line.what}{mark}", where + why, Tone.FAILURE, lost=True)]
        case "half-closed":
            return [Arrow(at, outer, Column.AGW, f"TCP FIN{mark}", (), Tone.TCP)]
        case "closed":
            cause = line.reason or line.text
            suffix = f": {clean(cause, 60)}" if cause else ""
            return [Note(at, Column.AGW, f"TCP to {outer_name(outer)} closed{suffix}{mark}", Tone.TCP)]
        case "listening":
            return []
        case _:
            return [Note(at, Column.AGW, f"TCP {clean(line.what or '?')}{mark}", Tone.TCP)]


def outer_name(column: Column) -> str:
    """How a note calls the outer column."""
    return "core" if column is Column.CORE else "UE"


def tls_items(line: TraceLine, start: float, mark: str) -> list[Item]:
    """The TLS session of a leg: who starts it, that it is up, or why not."""
    at = line.t - start
    outer = outer_column(line.realm)
    match line.what:
        case "start-client":
            return [Arrow(at, Column.AGW, outer, f"TLS ClientHello{mark}", (), Tone.TLS)]
        case "start-server":
            return [Note(at, Column.AGW, f"TLS server, ClientHello awaited{mark}", Tone.TLS)]
        case "handshake":
            version = tls_version(line.version)
            details = (clean(line.cipher),) if line.cipher else ()
            return [Arrow(at, outer, Column.AGW, f"{version} handshake{mark}", details, Tone.TLS, both=True)]
        case "alert" | "failed":
            why = line.reason or line.text
            return [Note(at, Column.AGW, clean(f"✘ TLS {line.what}{': ' + why if why else ''}") + mark, Tone.FAILURE)]
        case "closed":
            return [Note(at, Column.AGW, f"TLS closed{mark}", Tone.TLS)]
        case _:
            return [Note(at, Column.AGW, clean(f"TLS {line.what or '?'}") + mark, Tone.TLS)]


def tls_version(version: str | None) -> str:
    """``TLSv1.3`` written as ``TLS 1.3``."""
    return clean((version or "TLS").replace("TLSv", "TLS "), 20)


def verify_items(line: TraceLine, start: float, mark: str) -> list[Item]:
    """The fingerprint gate (RFC 8122 5.1): nothing passes before ``verified``."""
    at = line.t - start
    name = clean((line.hash or "").upper(), 16)
    seen = short_fingerprints(clean(line.seen or ""))
    expected = line.expected if isinstance(line.expected, str) else ", ".join(line.expected or ())
    match line.what:
        case "verified":
            return [Note(at, Column.AGW, f"✔ fingerprint verified {name} {seen}".rstrip() + mark, Tone.VERIFIED)]
        case "pending":
            return [Note(at, Column.AGW, f"fingerprint not known yet: verification waits{mark}", Tone.HELD)]
        case "mismatch":
            text = f"✘ fingerprint mismatch: expected {short_fingerprints(clean(expected))}, seen {seen}"
            return [Note(at, Column.AGW, text + mark, Tone.FAILURE)]
        case "missing":
            return [Note(at, Column.AGW, f"✘ peer showed no certificate{mark}", Tone.FAILURE)]
        case _:
            return [Note(at, Column.AGW, clean(f"fingerprint {line.what or '?'}") + mark, Tone.TLS)]


def human_bytes(count: int) -> str:
    """``1,234 B``, ``1.2 MB``: short, exact where short is exact."""
    if count < 100_000:
        return f"{count:,} B"
    if count < 10_000_000:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.1f} MB"


def bytes_items(line: TraceLine, start: float, mark: str) -> list[Item]:
    """What was relayed in each direction, known when the context closes."""
    duration = ""
    if line.seconds is not None:
        duration = f" in {line.seconds:.1f} s" if line.seconds >= 1 else f" in {line.seconds * 1000:.0f} ms"
    text = f"relayed {human_bytes(line.a_to_c)} to core, {human_bytes(line.c_to_a)} to UE{duration}{mark}"
    return [Note(line.t - start, Column.AGW, text, Tone.BYTES)]


def call_items(line: TraceLine, start: float) -> list[Item]:
    """A verdict of the IMS-ALG on the call itself."""
    what = clean(line.what or "?", 40)
    reason = clean(line.reason or line.text or "")
    tone = Tone.PLAIN if what in ("ended", "established", "agreed") else Tone.FAILURE
    return [Note(line.t - start, Column.ALG, f"call {what}{': ' + reason if reason else ''}", tone)]


def items_of(line: TraceLine, start: float, mark: str) -> list[Item]:
    """Everything one trace line contributes to a ladder that began at ``start`` (unix seconds).

    ``mark`` is appended to media items where a call has several contexts (`` C2``), else empty.
    """
    match line.kind:
        case "sip":
            return [sip_item(line, start)]
        case "h248":
            return [h248_item(line, start)]
        case "tcp":
            return tcp_items(line, start, mark)
        case "tls":
            return tls_items(line, start, mark)
        case "verify":
            return verify_items(line, start, mark)
        case "bytes":
            return bytes_items(line, start, mark)
        case "call":
            return call_items(line, start)
        case _:
            return []
