"""Both stores keep one contract; the SQLite file is private, versioned, for one process, refused when it is broken."""

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from imsalg.core.records import Forget, Keep
from imsalg.settings import StateSettings
from imsalg.shell import sqlite_store
from imsalg.shell.sqlite_store import STEPS, SqliteStore, open_store, set_aside, state_file
from imsalg.shell.store import MemoryStore, Store, StoreError


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state.db")
    yield made
    made.close()


def test_values_by_kind_and_key(store: Store) -> None:
    assert store.get("binding", "a") is None
    store.put("binding", "a", b"1")
    store.write([Keep("binding", "b", b"2"), Keep("call", "a", b"3"), Keep("binding", "a", b"4")])
    assert store.get("binding", "a") == b"4"
    assert sorted(store.items()) == [("binding", "a", b"4"), ("binding", "b", b"2"), ("call", "a", b"3")]
    store.write([Forget("binding", "a"), Forget("binding", "never there")])
    assert store.get("binding", "a") is None
    assert store.get("call", "a") == b"3"
    store.write([])


def test_the_last_word_about_a_key_counts(store: Store) -> None:
    store.write([Keep("call", "a", b"1"), Forget("call", "a"), Keep("call", "b", b"1"), Keep("call", "b", b"2")])
    store.write([Forget("call", "b"), Keep("call", "b", b"3")])
    assert list(store.items()) == [("call", "b", b"3")]


@pytest.mark.parametrize("count", [1, 7, 8, 63, 64, 65, 200])
def test_batches_of_any_size(store: Store, count: int) -> None:
    names = [f"k{number}" for number in range(count)]
    store.write([Keep("call", name, name.encode()) for name in names])
    assert sorted(key for _, key, _ in store.items()) == sorted(names)
    store.write([Forget("call", name) for name in names[1:]])
    assert list(store.items()) == [("call", "k0", b"k0")]


def test_the_file_is_private_and_outlives_a_process_that_says_no_goodbye(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.put("node", "token_key", b"secret")
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    copy = tmp_path / "after-kill.db"  # what the disk holds while the process is still there
    copy.write_bytes(path.read_bytes())
    copy.with_name("after-kill.db-wal").write_bytes(path.with_name("state.db-wal").read_bytes())
    assert SqliteStore(copy).get("node", "token_key") == b"secret"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600, "closed to others when it is opened"
    store.close()
    assert not path.with_name("state.db-wal").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "state.db")
    with pytest.raises(StoreError, match="another imsalg uses it"):
        SqliteStore(tmp_path / "state.db")
    with pytest.raises(StoreError, match="another imsalg uses it"):
        set_aside(tmp_path / "state.db")
    first.close()
    SqliteStore(tmp_path / "state.db").close()


def test_a_file_of_an_earlier_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    early = SqliteStore(path, steps=STEPS[:1])
    early.put("call", "a", b"1")
    early.close()
    now = SqliteStore(path)
    assert now.get("call", "a") == b"1"
    now.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        assert db.execute("SELECT count(*) FROM run").fetchone() == (1,)


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    early = SqliteStore(path)
    early.put("call", "a", b"1")
    early.close()

    def broken(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM record")
        db.execute("this is no SQL")

    with pytest.raises(StoreError):
        SqliteStore(path, steps=(*STEPS, broken))
    again = SqliteStore(path)
    assert again.get("call", "a") == b"1"
    again.close()


def newer(path: Path) -> None:
    SqliteStore(path, steps=(*STEPS, lambda db: None)).close()


def corrupt(path: Path) -> None:
    store = SqliteStore(path)
    store.write([Keep("call", str(number), bytes(500)) for number in range(100)])
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def no_database(path: Path) -> None:
    path.write_text("these are my holiday notes" * 100)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE somebody (else_s TEXT)")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(newer, "schema"), (corrupt, "cannot be used"), (no_database, "not a database"), (foreign, "another program")],
)
def test_what_cannot_be_used_is_refused_and_left_alone(spoil: object, word: str, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=word) as refused:
        SqliteStore(path)
    assert str(path) in str(refused.value)
    assert "--set-state-aside" in str(refused.value)
    assert path.read_bytes() == before
    aside = set_aside(path)
    assert aside is not None
    assert aside.read_bytes() == before
    store = SqliteStore(path)
    assert list(store.items()) == []
    store.put("call", "a", b"1")
    store.close()
    assert set_aside(path) is None, "a good file stays"
    assert SqliteStore(path).get("call", "a") == b"1"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="table 'state'"):
        SqliteStore(tmp_path / "nowhere" / "state.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "folder")


def test_a_transaction_that_fails_says_so_and_leaves_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "state.db")
    store.put("call", "a", b"1")
    with sqlite3.connect(":memory:") as other:
        monkeypatch.setattr(store, "_db", other)
        with pytest.raises(StoreError, match=r"state\.db"):
            store.write([Keep("call", "a", b"2")])
    monkeypatch.undo()
    assert store.get("call", "a") == b"1"
    store.close()


def test_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "etc" / "imsalg.toml"
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state_file(StateSettings(), config) == tmp_path / "etc" / "imsalg.db"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/var:{tmp_path}/more")
    assert state_file(StateSettings(), config) == tmp_path / "var" / "imsalg.db"
    assert state_file(StateSettings(file="/srv/x.db"), config) == Path("/srv/x.db")
    assert open_store(StateSettings(store="memory"), config).lasting is False
    assert sqlite_store.SqliteStore.lasting is True
