"""The demonstration: two UEs, one secured chat each way, and what can be said to have been verified."""

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec import Struct

from imslab.lab import Lab
from imslab.ladder.model import Ladder
from imslab.ladder.read import TraceLine
from imslab.ue.agent import UeAgent
from imslab.ue.call import Call
from imswire.sdp.attributes import E2ae

FILE_SIZE = 1_000_000
_PASSAGES = 2
"""A call between two UEs of one P-CSCF passes it twice."""


class Check(Struct, frozen=True):
    """One thing that was looked at."""

    text: str
    good: bool


class Chat(Struct, frozen=True):
    """A finished call: its Call-ID, who called whom, and what was found."""

    call_id: str
    caller: str
    called: str
    checks: tuple[Check, ...]


async def chat(caller: UeAgent, called: UeAgent, folder: Path, report: Callable[[str], None]) -> Chat:
    """One call with a text each way and a file from the caller; raises SipFailure, ChatError or TimeoutError."""
    names = caller.account.user, called.account.user
    report(f"{names[0]} calls {names[1]}: TCP/TLS/MSRP, a=3ge2ae:requested, own fingerprint")
    outgoing = caller.dial(called.account.aor)
    incoming = await called.wait_call()
    incoming.ring()
    incoming.accept()
    await outgoing.answered()
    await outgoing.session.opened()
    await incoming.session.opened()
    checks = [*_security_checks(outgoing, incoming)]
    report("TLS is up at both access edges; texts go both ways")
    await outgoing.session.send_text(f"Hello {names[1].title()}, this went through TLS to the access edge.")
    there = await incoming.session.receive()
    await incoming.session.send_text(f"Hello {names[0].title()}, read you loud and clear.")
    back = await outgoing.session.receive()
    checks.append(Check("texts arrived both ways", "Hello" in (there.text or "") and "Hello" in (back.text or "")))
    checks.append(await _file(outgoing, incoming, folder, report))
    status = await outgoing.hangup()
    await incoming.wait_end()
    checks.append(Check("the call ended in order", status == 200))
    return Chat(outgoing.call_id, names[0], names[1], tuple(checks))


def _security_checks(outgoing: Call, incoming: Call) -> list[Check]:
    links = (outgoing.session.link, incoming.session.link)
    versions = [link.tls_version.replace("TLSv", "TLS ") if link is not None else "" for link in links]
    different = _fingerprints(outgoing) != _own(incoming)
    return [
        Check(f"UE A has {versions[0] or 'no TLS'} to the AGW, UE B {versions[1] or 'no TLS'}", all(versions)),
        Check("UE B was told a=3ge2ae:applied", incoming.media.offered_e2ae is E2ae.APPLIED),
        Check("each UE saw the AGW's fingerprint, not the other UE's", different),
    ]


def _fingerprints(call: Call) -> set[str]:
    """The fingerprints the far end showed in its session description."""
    return (
        set() if call.media.remote is None else {v for m in call.media.remote.media for v in m.get_all("fingerprint")}
    )


def _own(call: Call) -> set[str]:
    return set() if call.media.local is None else {v for m in call.media.local.media for v in m.get_all("fingerprint")}


async def _file(outgoing: Call, incoming: Call, folder: Path, report: Callable[[str], None]) -> Check:
    source = folder / f"{outgoing.call_id[:8]}.bin"
    source.write_bytes(secrets.token_bytes(FILE_SIZE))
    try:
        report(f"a file of {FILE_SIZE:,} octets in chunks, with a success report")
        sent = await outgoing.session.send_file(source)
        received = await incoming.session.receive()
    finally:
        source.unlink()
    if received.path is not None:
        received.path.unlink()
    return Check(
        f"file of {sent.size:,} octets arrived equal by SHA-256 ({sent.seconds:.2f} s)", sent.sha256 == received.sha256
    )


async def ladders_of(lab: Lab, chats: list[Chat]) -> list[Ladder]:
    """The ladders of these calls, once both daemons have written how they ended."""
    wanted = {chat.call_id for chat in chats}
    for one in chats:
        await lab.wait_lines(partial(_told_all, one.call_id), 10.0)
    return [ladder for ladder in lab.ladders() if ladder.call_id in wanted]


def _told_all(call_id: str, lines: list[TraceLine]) -> bool:
    """Both passages answered the BYE, and each of their contexts was subtracted and counted."""
    byes = [
        one for one in lines if one.call_id == call_id and one.cseq and one.cseq.endswith(" BYE") and one.dir == "out"
    ]
    bound = {(one.gateway, one.context) for one in lines if one.kind == "bind" and one.call_id == call_id}
    counted = {(one.gateway, one.context) for one in lines if one.kind == "bytes"}
    subtracted = {
        (one.gateway, command.context)
        for one in lines
        if one.kind == "h248" and one.type == "reply"
        for command in one.commands
        if command.command == "Subtract"
    }
    answered = sum((one.summary or "").startswith("200") for one in byes)
    return answered >= _PASSAGES and len(bound) >= _PASSAGES and bound <= counted and bound <= subtracted


def ladder_checks(ladders: list[Ladder], calls: int) -> list[Check]:
    """What the traces of the daemons prove: both passages of each call, verified on the access side, plain to the
    core.
    """
    kinds = [ladder.kind for ladder in ladders]
    verified = sum(len(ladder.facts.verified) for ladder in ladders)
    return [
        Check(
            f"{calls} originating and {calls} terminating passages traced",
            kinds.count("originating") == kinds.count("terminating") == calls,
        ),
        Check(f"the AGW verified the UE's fingerprint on {verified} access legs", verified == 2 * calls),
        Check(
            "every context was released and its bytes counted",
            all(ladder.facts.to_core and ladder.facts.to_access for ladder in ladders),
        ),
        Check("no fingerprint was refused", not any(ladder.facts.mismatched for ladder in ladders)),
    ]


__all__ = ["Chat", "Check", "chat", "ladder_checks", "ladders_of"]
