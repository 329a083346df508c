"""A node that is killed at any moment and rebuilt from what it kept: registrations hold, calls go on, media too."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.playbook import alg_harness as lab
from tests.playbook.alg_gateway import MID, Gateway
from tests.playbook.alg_harness import SCSCF, UE, Book, answer, register, request, wire
from tests.playbook.test_alg_media import PLAIN_ANSWER, PLAIN_OFFER, SECURE_OFFER, establish, originate
from tests.playbook.test_alg_proxy import BOB, from_called, from_caller
from tests.playbook.test_alg_random import Run, steps

from imsalg.core.bindings import Binding
from imsalg.core.events import FlowClosed, Restore
from imsalg.core.journal import Journal
from imsalg.core.media_events import GatewayDown, Side
from imsalg.core.records import BINDING, CALL, NODE, BindingRecord, Keep, LineRecord
from imsalg.core.reservations import Line
from imsalg.core.sip_call import Call, Stage
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response

WALL = 1_700_000_000.0


class Kept:
    """What the store of a node holds; ``wall`` is Unix time when a book's clock shows 0."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.journal: Journal = book.engine.keep(book.media)
        self.values: dict[tuple[str, str], bytes] = {}

    def sync(self) -> None:
        """Write the marks down."""
        for change in self.journal.take(self.book.now, WALL + self.book.now):
            if isinstance(change, Keep):
                self.values[change.kind, change.key] = change.value
            else:
                del self.values[change.kind, change.key]  # never of what is not there

    def keys(self, kind: str) -> list[str]:
        return [key for one, key in self.values if one == kind]

    def revive(self, *, later: float = 0.0, **changes: object) -> "Kept":
        """Another process with another clock, ``later`` seconds of real time after the end of this one."""
        book = Book(lab.settings(**changes) if changes else self.book.settings)
        wall = WALL + self.book.now + later
        kept = Kept(book)
        kept.values = dict(self.values)
        book.now = 7.0
        records = tuple((kind, key, value) for (kind, key), value in self.values.items())
        book.feed(Restore(records, wall))
        return kept


def shown(book: Book) -> list[tuple[object, ...]]:
    """What was sent, without what a process makes up for itself."""
    rows: list[tuple[object, ...]] = []
    for message, flow in book.out():
        kept = [(name, value) for name, value in message.headers if name.lower() != "via"]
        if isinstance(message, Response) and message.status >= 400:  # our own answer: a To tag of its own
            kept = [pair for pair in kept if pair[0].lower() != "to"]
        rows.append((flow, message.start_line, kept, message.body))
    return rows


def probes(ok: Response, invite: Request) -> Iterator[tuple[Flow, str, str]]:
    """In-dialog requests of both ends."""
    yield UE, from_caller("INFO", 900, ok), ""
    yield SCSCF, from_called("INFO", 900, invite).replace("tag=callee", f"tag={ok.to_tag}"), ""
    yield UE, from_caller("UPDATE", 901, ok), ""
    yield SCSCF, from_called("INVITE", 901, invite).replace("tag=callee", f"tag={ok.to_tag}"), PLAIN_OFFER
    yield UE, from_caller("BYE", 902, ok).replace("Route: <sip:a", "Route: <sip:x"), ""
    yield UE, from_caller("BYE", 903, ok), ""
    yield SCSCF, from_called("BYE", 903, invite).replace("tag=callee", f"tag={ok.to_tag}"), ""


UP = st.tuples(st.just(0), st.sampled_from(["established", "answered", "re-answered", "re-offered"]))
beginnings = st.one_of(UP, UP, UP, st.tuples(st.sampled_from((0, 5)), st.sampled_from(("early", "fork", "delayed"))))
going_on = steps.filter(lambda step: step[0] not in ("drain", "notify") and step[-1] != 200.0)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(beginnings, st.lists(going_on, min_size=1, max_size=6), st.sets(st.integers(0, 6), max_size=4))
def test_a_rebuilt_node_answers_as_the_old_one_would(
    start: tuple[int, str], script: list[tuple[object, ...]], syncs: set[int]
) -> None:
    run = Run(*start, eager=True)
    old = Kept(run.book)
    old.journal.calls.update(run.book.engine.context.calls)
    old.journal.bindings.add(run.book.engine.context.registrar.on_flow(UE)[0].key)
    for number, step in enumerate(script):
        run.perform(step)
        if number in syncs:
            old.sync()
    run.settle()
    if script and len(script) % 2:
        run.perform(("time", 40.0))  # nobody answers what is under way
        run.settle()
    old.sync()
    before = run.book.engine.context
    live = [call for call in before.calls.values() if call.stage is not Stage.EARLY]
    assert old.keys(CALL) == [call.key for call in live]

    new = old.revive()
    after = new.book.engine.context
    assert not [log for log in new.book.logs if log.level == "error"]
    assert [b.contact for b in after.registrar.bindings()] == [b.contact for b in before.registrar.bindings()]
    run.gateway.take()
    Gateway(new.book, before=run.gateway)
    new.book.out()
    if run.ok is None or run.invite is None or not live or live[0].stage is not Stage.ESTABLISHED:
        return
    call = live[0]
    if any(one.hold or not one.answered for one in call.forwards) or call.exchanges or call.key not in after.calls:
        return  # what was under way is not kept; the ends ask again
    if run.book.media.calls[call.key].record() is None if call.has_media else False:
        assert after.calls[call.key].stage is Stage.ENDING, "nothing was agreed: it is ended in order"
        return
    assert {mid: g.contexts for mid, g in new.book.media.gateways.gateways.items() if g.contexts} == {
        mid: g.contexts for mid, g in run.book.media.gateways.gateways.items() if g.contexts
    }
    run.book.out()
    for flow, text, body in probes(run.ok, run.invite):
        answers = []
        for book in (run.book, new.book):
            book.receive(flow, text, body)
            answers.append(shown(book))
        assert answers[0] == answers[1], text


def test_registrations_hold_for_the_time_that_they_have_left() -> None:
    book = Book()
    old = Kept(book)
    path = register(book)
    old.sync()
    assert len(old.keys(BINDING)) == 1

    new = old.revive(later=5_000.0)
    new.book.receive(SCSCF, terminating(path), lab.AUDIO)
    sent = new.book.request("INVITE")
    assert sent.headers.get("to")
    (binding,) = new.book.engine.context.registrar.bindings()
    assert binding.agreed == {"msrp-tls"}
    new.book.advance(1_001.0)
    assert not list(new.book.engine.context.registrar.bindings())
    new.sync()
    assert not new.keys(BINDING)

    gone = old.revive(later=6_001.0)
    assert not list(gone.book.engine.context.registrar.bindings())
    gone.sync()
    assert not gone.keys(BINDING), "what is of no use is forgotten"


def terminating(path: str) -> str:
    """An INVITE of the core for alice, through her Path."""
    return request(
        "INVITE",
        f"Route: {path}",
        uri="sip:alice@10.0.0.7:5070",
        from_="<sip:bob@example.net>;tag=bob",
        to="<sip:alice@example.net>",
        flow=SCSCF,
        call_id="in-1",
    )


def test_a_ue_over_tcp_is_reached_again_when_it_registers_over_a_new_connection() -> None:
    """RFC 5626 5.3.1: its flow went with the process, 430 until then."""
    book = Book()
    old = Kept(book)
    path = register(book, "alice", Flow("tcp", "access", lab.ACCESS, ("10.0.0.7", 5070), 5))
    old.sync()
    new = old.revive()
    new.book.receive(SCSCF, terminating(path), lab.AUDIO)
    assert new.book.response(430)
    # Another UE's connection has the number of the old one.
    other = Flow("tcp", "access", lab.ACCESS, ("10.0.0.66", 5070), 5)
    register(new.book, "mallory", other)
    new.book.receive(SCSCF, terminating(path).replace("branch=z9hG4bKa1", "branch=z9hG4bKa2"), lab.AUDIO)
    assert new.book.response(430)
    flow = Flow("tcp", "access", lab.ACCESS, ("10.0.0.7", 5070), 9)
    path = register(new.book, "alice", flow)
    new.book.receive(SCSCF, terminating(path).replace("branch=z9hG4bKa1", "branch=z9hG4bKa3"), lab.AUDIO)
    sent = [(m, f) for m, f in new.book.out() if isinstance(m, Request)]
    assert [(m.method, f) for m, f in sent] == [("INVITE", flow)]


def over_tcp(port: int, number: int, host: str = "10.0.0.7") -> Flow:
    return Flow("tcp", "access", lab.ACCESS, (host, port), number)


def called_over_tcp(book: Book, flow: Flow) -> Request:
    """A call of alice over ``flow``, established; returns the INVITE at the core."""
    book.receive(flow, request(), lab.AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=lab.AUDIO), SCSCF))
    book.receive(flow, from_caller("ACK", 1, book.response(200)))
    assert book.request("ACK")
    return invite


def onward(book: Book) -> list[tuple[str, Flow]]:
    return [(message.method, flow) for message, flow in book.out() if isinstance(message, Request)]


def test_a_call_over_tcp_reaches_the_ue_again_when_it_has_registered() -> None:
    book = Book()
    old = Kept(book)
    before = over_tcp(5070, 5)
    register(book, "alice", before)
    invite = called_over_tcp(book, before)
    old.sync()
    new = old.revive()
    # Somebody else is on a connection with the number of the old one, or has the same host: not alice.
    register(new.book, "mallory", over_tcp(5070, 5, "10.0.0.66"))
    register(new.book, "bob", over_tcp(5071, 6))
    new.book.receive(SCSCF, from_called("INFO", 2, invite))
    assert onward(new.book) == [("INFO", before)], "which the transport answers: it is gone"
    after = over_tcp(5070, 9)
    register(new.book, "alice", after)
    new.book.receive(SCSCF, from_called("INFO", 3, invite))
    assert onward(new.book) == [("INFO", after)]
    new.sync()
    again = new.revive()
    again.book.receive(SCSCF, from_called("INFO", 4, invite))
    assert onward(again.book) == [("INFO", after)], "it is kept"


def test_a_call_stays_on_its_connection_while_somebody_is_registered_over_it() -> None:
    book = Book()
    first, second = over_tcp(5070, 5), over_tcp(5070, 6)
    register(book, "alice", first)
    register(book, "alice2", first)
    invite = called_over_tcp(book, first)
    book.advance(1.0)
    register(book, "alice", second)
    book.receive(SCSCF, from_called("INFO", 2, invite))
    assert onward(book) == [("INFO", first)]
    book.feed(FlowClosed(first, "reset"))
    book.advance(1.0)
    register(book, "alice", second)
    book.receive(SCSCF, from_called("BYE", 3, invite))
    assert ("BYE", second) in onward(book)


@pytest.mark.parametrize("changes", [{"transport": "tls"}, {"realm": "visited"}])
def test_a_call_keeps_its_realm_and_stays_over_tls(changes: dict[str, str]) -> None:
    book = Book()
    flow = over_tcp(5070, 5)
    register(book, "alice", flow)
    called_over_tcp(book, flow)
    (call,) = book.engine.context.calls.values()
    known = call.flows[Side.ACCESS] = msgspec.structs.replace(flow, **changes)
    book.feed(FlowClosed(flow, "reset"))
    book.advance(1.0)
    register(book, "alice", over_tcp(5070, 6))
    assert call.flows[Side.ACCESS] == known


def test_a_secured_call_goes_on_and_a_reinvite_changes_its_contexts() -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    invite, ok = establish(book, gateway)
    old.sync()
    new = old.revive(later=1.0)
    assert new.book.media.gateways.gateways[MID].contexts
    later = Gateway(new.book, before=gateway)
    assert later.held == gateway.held, "nothing is subtracted"
    new.book.out()
    moved = PLAIN_ANSWER.replace("8000", "8100").replace("a=setup:active", "a=setup:actpass")
    new.book.receive(SCSCF, from_called("INVITE", 2, invite), moved)
    onward = new.book.request("INVITE")
    assert b"TCP/TLS/MSRP" in onward.body
    assert b"a=fingerprint" in onward.body
    new.book.feed(wire(answer(onward, 200, body=SECURE_OFFER.replace("actpass", "active")), UE))
    later.take()
    assert later.seen == ["Modify", "Modify"] or later.seen == ["Modify"], later.seen
    later.answer()
    assert b"TCP/MSRP" in new.book.response(200).body
    new.book.receive(UE, from_caller("BYE", 3, ok))
    later.take()
    assert later.seen[-1] == "Subtract"


def test_a_call_that_was_still_being_set_up_is_released() -> None:
    """Its contexts are found by the audit; its ends begin anew."""
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    invite = originate(book, gateway)
    book.feed(wire(answer(invite, 180, BOB), SCSCF))
    old.sync()
    assert old.keys(CALL) == []
    new = old.revive()
    later = Gateway(new.book, before=gateway)
    assert gateway.held
    assert not later.held
    assert not new.book.engine.context.calls


def test_a_call_whose_media_were_not_agreed_is_ended_on_both_sides() -> None:
    """Offer in the 2xx, killed before the ACK with the answer."""
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    register(book)
    book.receive(UE, request())
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, body=PLAIN_OFFER), SCSCF))
    gateway.answer()
    assert book.response(200)
    old.sync()
    new = old.revive()
    Gateway(new.book, before=gateway)
    byes = {(m.method, f.realm) for m, f in new.book.out() if isinstance(m, Request)}
    assert byes == {("BYE", "core")}, "the caller gets its BYE when its ACK has come, or with timer H"
    new.book.advance(40.0)
    assert ("BYE", "access") in {(m.method, f.realm) for m, f in new.book.out() if isinstance(m, Request)}
    new.book.advance(100.0)
    new.sync()
    assert not new.keys(CALL)


@pytest.mark.parametrize("comes_back", [True, False])
def test_calls_whose_contexts_are_gone_are_released(comes_back: bool) -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    establish(book, gateway)
    old.sync()
    new = old.revive()
    if comes_back:
        gateway.held.clear()
        Gateway(new.book, before=gateway)
    else:
        new.book.advance(29.0)
        assert not new.book.lines(), "it has time to come back"
        new.book.advance(2.0)
    byes = {(m.method, f.realm) for m, f in new.book.out() if isinstance(m, Request)}
    assert byes == {("BYE", "core"), ("BYE", "access")}


def test_session_timers_go_on_where_they_stood() -> None:
    book = Book()
    old = Kept(book)
    register(book)
    book.receive(UE, request("INVITE", "Session-Expires: 1800", "Supported: timer"), lab.AUDIO)
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, BOB, "Session-Expires: 1800;refresher=uac", body=lab.AUDIO), SCSCF))
    book.receive(UE, from_caller("ACK", 1, book.response(200)))
    book.advance(1_000.0)
    old.sync()
    new = old.revive(later=700.0)
    new.book.advance(99.0)
    assert not new.book.lines()
    new.book.advance(2.0)
    assert {line.split()[1] for line in new.book.lines()} == {"BYE"}


def test_transaction_ids_are_noted() -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    establish(book, gateway)
    used = book.media.gateways.last_transaction
    assert used >= 2
    book.feed(GatewayDown(1, "cut"))
    assert book.media.gateways.last_transaction == used
    old.sync()
    assert old.values[NODE, "h248_id"] == str(used).encode()


def test_what_comes_and_goes_between_two_batches_leaves_nothing() -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    _, ok = establish(book, gateway)
    book.receive(UE, from_caller("BYE", 2, ok))
    book.feed(wire(answer(book.request("BYE"), 200), SCSCF))
    assert len(old.journal)
    changes = old.journal.take(book.now, WALL)
    assert [one.kind for one in changes] == [BINDING, NODE]
    assert old.journal.kept == 1


def test_records_that_are_of_no_use_are_left_out_and_forgotten() -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    establish(book, gateway)
    old.sync()
    assert len(old.values) == 3
    for broken in (b"", b"\xff", b"\x01\xc1", b"\x01\x80"):
        for kind, key in [pair for pair in old.values if pair[0] != NODE]:
            old.values[kind, key] = broken
        new = old.revive()
        assert len([log for log in new.book.logs if log.event == "a kept record is of no use"]) == 2
        assert not new.book.engine.context.calls
        new.sync()
        assert {kind for kind, _ in new.values} == {NODE}


def test_records_of_realms_that_are_not_served_any_more_are_left_out() -> None:
    book = Book()
    old = Kept(book)
    gateway = Gateway(book)
    establish(book, gateway)
    old.sync()
    listen = [
        {"realm": "other", "transport": "udp", "host": lab.ACCESS[0]},
        {"realm": "core", "transport": "udp", "host": lab.CORE[0]},
    ]
    settings_ = lab.settings()
    realm = {"other": {"kind": "access"}, "core": {"kind": "core", "next_hop": settings_.realm["core"].next_hop}}
    new = old.revive(listen=listen, realm=realm)
    assert not new.book.engine.context.calls
    assert not len(new.book.engine.context.registrar)


def test_a_lost_flow_is_noted() -> None:
    book = Book()
    old = Kept(book)
    flow = Flow("tcp", "access", lab.ACCESS, ("10.0.0.7", 5070), 5)
    register(book, "alice", flow)
    old.sync()
    book.feed(FlowClosed(flow, "reset"))
    old.sync()
    (binding,) = old.revive().book.engine.context.registrar.bindings()
    assert binding.flow is None
    assert binding.profile.access_realm == "access"


KEPT = {
    *("ack_by", "call_id", "caller", "caller_side", "cseq", "flows", "gone", "has_media", "key", "legs", "outcome"),
    *("profile", "refresh_by", "since", "stage", "charging", "binding", "urgent"),
}
NOT_KEPT = {"bye_waits", "confirm_due", "exchanges", "forked", "forwards", "realms", "record_routes", "tokens"}
"""What belongs to requests under way, is made again from the rest, or spares work and no more (``record_routes``)."""


def test_every_attribute_of_a_call_is_kept_or_not_for_a_reason() -> None:
    """Whoever adds one decides: :mod:`imsalg.core.records` has it (with a default), or this table says why not."""
    assert set(Call.__slots__) == KEPT | NOT_KEPT


def test_every_attribute_of_a_binding_is_kept() -> None:
    made_again = {"_identities", "key", "profile", "user", "expires_at"}
    assert set(Binding.__slots__) - made_again <= set(BindingRecord.__struct_fields__)


def test_every_attribute_of_a_line_is_kept_or_over_when_the_call_is_established() -> None:
    forks = {"spares", "crowded"}
    assert set(Line.__slots__) - forks == set(LineRecord.__struct_fields__)


def test_subscriptions_to_registration_state_are_asked_for_anew() -> None:
    book = Book(lab.settings(reg_event={"subscribe": "always"}))
    old = Kept(book)
    register(book)
    old.sync()
    new = old.revive()
    assert new.book.lines() == []
    new.book.advance(1.0)
    assert [line.split()[1] for line in new.book.lines()][:1] == ["SUBSCRIBE"]
