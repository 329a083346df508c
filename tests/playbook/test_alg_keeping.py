"""Whatever peers write, and whatever fails: records survive keeping and restoring, and the keeping goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.playbook import alg_harness as lab
from tests.playbook.alg_harness import SCSCF, UE, UE_B, Book, answer, register, request, sip, wire
from tests.playbook.test_alg_restore import WALL, Kept

from imsalg.core.events import Restore
from imsalg.core.journal import Journal, binding_key, binding_of
from imsalg.core.records import BINDING, CALL, BindingRecord, CallRecord, Change, Keep, decode, encode, escape, unescape
from imsalg.core.restore import Restorer
from imsalg.core.sip_call import Call, Stage
from imsalg.shell.keeper import Keeper
from imsalg.shell.sqlite_store import SqliteStore
from imsalg.shell.store import MemoryStore
from imswire.base import ProtocolError
from imswire.sip.parser import parse


def call_from(book: Book, name: bytes) -> None:
    """A call without media of a registered UE whose display name is ``name``."""
    text = request("INVITE", from_='"NAME" <sip:alice@example.net>;tag=al')
    book.feed(wire(sip(text).replace(b"NAME", name), UE))
    invite = book.request("INVITE")
    book.feed(wire(answer(invite, 200, "Contact: <sip:bob@10.9.0.50:5060>"), SCSCF))
    book.out()


def test_a_display_name_that_is_not_utf8_is_kept_as_it_is() -> None:
    old = Kept(Book())
    register(old.book)
    call_from(old.book, b"\xff")
    old.sync()
    (key,) = old.keys(CALL)
    assert old.values[CALL, key][0] & 0x80  # the record says that its strings are escaped
    new = old.revive()
    (before,), (after,) = old.book.engine.context.calls.values(), new.book.engine.context.calls.values()
    assert after.caller.address == before.caller.address
    assert b"\xff" in after.caller.address.encode("utf-8", "surrogateescape")
    assert after.stage is Stage.ESTABLISHED


octets = st.binary(min_size=1, max_size=40).filter(lambda data: not set(data) & set(b'\r\n\0"\\'))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(octets, octets)
def test_any_text_that_the_parser_accepts_survives_keep_and_restore(name: bytes, user: bytes) -> None:
    data = sip(request("INVITE", from_='"NAME" <sip:USER@example.net>;tag=al', call_id="CALLID"))
    data = data.replace(b"NAME", name).replace(b"USER", user).replace(b"CALLID", name + b"@x")
    try:
        message = parse(data)
        texts = (message.need("from"), message.need("call-id"))
    except ProtocolError:
        return
    old = Kept(Book())
    register(old.book)
    call_from(old.book, b"plain")
    (call,) = old.book.engine.context.calls.values()
    (binding,) = old.book.engine.context.registrar.bindings()
    call.caller.address, call.call_id = texts
    binding.aor, binding.flow_name = texts
    old.sync()
    (key,) = old.keys(CALL)
    record = decode(CALL, old.values[CALL, key])
    assert isinstance(record, CallRecord)
    assert (record.caller.address, record.call_id) == texts
    assert record.flows == call.flows
    ((_, value),) = [(k, v) for (kind, k), v in old.values.items() if kind == BINDING]
    kept = decode(BINDING, value)
    assert isinstance(kept, BindingRecord)
    assert (kept.aor, kept.flow_name, kept.flow, kept.agreed) == (*texts, UE, binding.agreed)


@given(st.text(st.characters(exclude_categories=()), max_size=20), st.text(st.characters(exclude_categories=())))
def test_every_string_has_an_escape_and_every_binding_a_key(aor: str, contact: str) -> None:
    assert unescape(escape(contact)) == contact
    aor = "sip:" + aor.replace("\n", "")
    key = binding_key((aor, contact))
    assert key.encode()
    assert binding_of(key) == (aor, contact)


def test_the_file_takes_a_binding_of_any_octets(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    key = binding_key(("sip:\udcff@example.net", "sip:\udcfe@10.0.0.7"))
    store.write([Keep(BINDING, key, b"1")])
    assert list(store.items()) == [(BINDING, key, b"1")]
    store.close()


# --- what fails ---


class Watched(MemoryStore):
    """A store that says in its loop when it was written; it cannot take changes of the key ``poison``."""

    def __init__(self) -> None:
        super().__init__(lasting=True)
        self.loop = asyncio.get_running_loop()
        self.poison = ""
        self.news = asyncio.Event()

    def write(self, changes: Sequence[Change]) -> None:  # type: ignore[override]
        if any(change.key == self.poison for change in changes):
            raise UnicodeEncodeError("utf-8", self.poison, 0, 1, "surrogates not allowed")
        super().write(changes)
        self.loop.call_soon_threadsafe(self.news.set)

    async def holds(self, kind: str, count: int) -> None:
        """Wait until there are so many of a kind."""
        async with asyncio.timeout(20):
            while sum(one == kind for one, _, _ in self.items()) != count:
                await self.news.wait()
                self.news.clear()


def keeping(book: Book) -> tuple[Journal, Watched, Keeper]:
    journal, store = book.engine.keep(book.media), Watched()
    return journal, store, Keeper(journal, store, lambda: book.now, 0.005)


def test_the_keeping_goes_on_after_a_name_that_is_not_utf8() -> None:
    async def play() -> None:
        book = Book()
        _, store, keeper = keeping(book)
        register(book)
        await store.holds(BINDING, 1)
        call_from(book, b"\xff\xfe")
        await store.holds(CALL, 1)
        register(book, "bob", UE_B)
        await store.holds(BINDING, 2)
        keeper.close()
        assert (keeper.failures, keeper.left_out, keeper.pending) == (0, 0, 0)

    asyncio.run(play())


def test_a_record_that_cannot_be_made_is_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(record: BindingRecord | CallRecord) -> bytes:
        if isinstance(record, BindingRecord) and "bob" in record.aor:
            raise OverflowError("no such number")
        return encode(record)

    monkeypatch.setattr("imsalg.core.journal.encode", picky)

    async def play() -> None:
        book = Book()
        _, store, keeper = keeping(book)
        register(book, "bob", UE_B)
        register(book)
        await store.holds(BINDING, 1)
        keeper.close()
        assert (keeper.left_out, keeper.pending) == (1, 0)

    asyncio.run(play())


def test_a_change_that_cannot_be_written_is_left_out_alone() -> None:
    async def play() -> None:
        book = Book()
        _, store, keeper = keeping(book)
        register(book, "bob", UE_B)
        register(book)
        first, second = book.engine.context.registrar.bindings()
        store.poison = binding_key(first.key)
        await store.holds(BINDING, 1)
        assert store.get(BINDING, binding_key(second.key))
        keeper.close()
        assert (keeper.left_out, keeper.failures) == (1, 0)

    asyncio.run(play())


def test_a_journal_that_fails_does_not_end_the_keeping_and_the_rest_is_written_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        book = Book()
        journal, store, keeper = keeping(book)
        register(book)
        await store.holds(BINDING, 1)
        take, asked = journal.take, asyncio.Event()

        def failing(*_: object) -> list[Change]:
            asked.set()
            raise ZeroDivisionError

        monkeypatch.setattr(journal, "take", failing)
        register(book, "bob", UE_B)
        async with asyncio.timeout(20):
            await asked.wait()
        monkeypatch.setattr(journal, "take", take)
        keeper.close()  # does not raise, and the mark is still there
        assert sum(kind == BINDING for kind, _, _ in store.items()) == 2
        assert keeper.failures == 1

    asyncio.run(play())


def test_one_faulty_record_does_not_end_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Kept(Book())
    register(old.book)
    register(old.book, "bob", UE_B)
    call_from(old.book, b"x")
    old.sync()
    make = Restorer._binding

    def picky(restorer: Restorer, record: BindingRecord) -> bool:
        if "alice" in record.aor:
            raise AttributeError("a bug")
        return make(restorer, record)

    monkeypatch.setattr(Restorer, "_binding", picky)
    new = old.revive()
    assert [one.user for one in new.book.engine.context.registrar.bindings()] == ["bob"]
    assert len(new.book.engine.context.calls) == 1
    new.sync()
    assert len(new.keys(BINDING)) == 1  # what was of no use was forgotten


def test_a_call_that_is_half_made_when_its_record_fails_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Kept(Book())
    register(old.book)
    call_from(old.book, b"x")
    old.sync()
    new = Kept(Book(lab.settings()))
    new.values = dict(old.values)

    def broken(call: Call) -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr(new.book.engine._restore.__self__._guard, "touched", broken)  # type: ignore[attr-defined]
    records = tuple((kind, key, value) for (kind, key), value in old.values.items())
    new.book.feed(Restore(records, WALL + old.book.now))
    assert not new.book.engine.context.calls
    new.sync()
    assert not new.keys(CALL)
