"""The store of the daemon: one SQLite file with a write-ahead log, for one process at a time.

What was committed survives ``kill -9``, since it is in the kernel's hands; a power cut may take the last transactions
(``synchronous = NORMAL``), never the file. The file is for its owner alone (0600): it holds the token key.
"""

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imsalg.core.records import Change, Keep
from imsalg.settings import StateSettings
from imsalg.shell.store import MemoryStore, Store, StoreError
from imskit.logs import get_logger

log = get_logger("imsalg.store")

APPLICATION_ID = 0x494D5341
"""Marks the file as ours (``PRAGMA application_id``): "IMSA"."""

_ROWS = (64, 8, 1)
"""Rows of one statement. Each step of a statement gives up the interpreter and has to wait for it: a few large ones do
not hold up the loop's thread, and are not held up by it."""

type Step = Callable[[sqlite3.Connection], None]


def _first(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE record (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID")


def _second(db: sqlite3.Connection) -> None:
    """Who wrote the file last, for the person who looks into it."""
    db.execute("CREATE TABLE run (started REAL NOT NULL, pid INTEGER NOT NULL)")


def _third(db: sqlite3.Connection) -> None:
    """Rows of a kilobyte and more are a third of the work in a table of their own beside the index."""
    columns = "id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (kind, key)"
    db.execute(f"CREATE TABLE rows ({columns})")
    db.execute("INSERT INTO rows (kind, key, value) SELECT kind, key, value FROM record")
    db.execute("DROP TABLE record")
    db.execute("ALTER TABLE rows RENAME TO record")


STEPS: tuple[Step, ...] = (_first, _second, _third)
"""Step n makes schema n + 1 of schema n; the number of the schema is the file's ``PRAGMA user_version``."""


class SqliteStore:
    """See the module's text. Raises :class:`StoreError` for a file that cannot be used, and leaves it as it is."""

    lasting = True

    def __init__(self, path: str | Path, *, steps: Sequence[Step] = STEPS) -> None:
        self.path = Path(path)
        self._steps = steps
        try:
            self._make_private()
            self._db = sqlite3.connect(self.path, timeout=0.0, autocommit=True, check_same_thread=False)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; it is set by 'file' in the table 'state'") from None
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; it is set by 'file' in the table 'state'") from None
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(_why(self.path, error)) from None
        except StoreError:
            self._db.close()
            raise

    def _make_private(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if self.path.stat().st_mode & 0o077:
            log.warning("the state file was open to others", file=str(self.path))
            self.path.chmod(0o600)

    def _open(self) -> None:
        db = self._db
        # Held from the first lock on: a second process finds the file locked. It goes with the process, even when that
        # is killed, and the index of the log stays in memory.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA page_size = 8192")  # of a file that is made now
        faults = [row[0] for row in db.execute("PRAGMA quick_check(3)")]
        if faults != ["ok"]:
            raise StoreError(_why(self.path, "; ".join(faults)))
        mark, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and mark != APPLICATION_ID:
            raise StoreError(_why(self.path, "it belongs to another program"))
        if version > len(self._steps):
            raise StoreError(
                _why(self.path, f"it has schema {version}, and this imsalg knows none above {len(self._steps)}")
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        with _transaction(db):
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for step in self._steps[version:]:
                step(db)
            db.execute(f"PRAGMA user_version = {len(self._steps)}")
            if len(self._steps) >= len(STEPS):
                db.execute("DELETE FROM run")
                db.execute("INSERT INTO run VALUES (?, ?)", (time.time(), os.getpid()))
        if tables and version < len(self._steps):
            log.info("the state file was brought up to date", file=str(self.path), schema=len(self._steps))

    def get(self, kind: str, key: str) -> bytes | None:
        """One value, or None; raises :class:`StoreError`."""
        try:
            row = self._db.execute("SELECT value FROM record WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None
        return row[0] if row is not None else None

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Write or replace one value."""
        self.write([Keep(kind, key, value)])

    def write(self, changes: Sequence[Change]) -> None:
        """One transaction; raises :class:`StoreError` (disk full, input or output error) and changes nothing then."""
        newest = {(one.kind, one.key): one for one in changes}.values()
        kept = [(one.kind, one.key, one.value) for one in newest if isinstance(one, Keep)]
        gone = [one for one in newest if not isinstance(one, Keep)]
        try:
            with _transaction(self._db):
                for rows in _chunks(kept):
                    values = ", ".join(["(?, ?, ?)"] * len(rows))
                    self._db.execute(
                        f"INSERT OR REPLACE INTO record (kind, key, value) VALUES {values}",
                        [x for row in rows for x in row],
                    )
                for kind in {one.kind for one in gone}:
                    for keys in _chunks([one.key for one in gone if one.kind == kind]):
                        places = ", ".join("?" * len(keys))
                        self._db.execute(f"DELETE FROM record WHERE kind = ? AND key IN ({places})", [kind, *keys])
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None

    def items(self) -> Iterator[tuple[str, str, bytes]]:
        """All values; raises :class:`StoreError`."""
        try:
            yield from self._db.execute("SELECT kind, key, value FROM record")
        except sqlite3.Error as error:
            raise StoreError(_why(self.path, error)) from None

    def close(self) -> None:
        """The log is folded into the file."""
        self._db.close()


def open_store(settings: StateSettings, config: Path) -> Store:
    """The store that the settings of ``config`` ask for; raises :class:`StoreError`."""
    if settings.store == "memory":
        return MemoryStore()
    return SqliteStore(state_file(settings, config))


def state_file(settings: StateSettings, config: Path) -> Path:
    """Where the file is: a relative name is below systemd's ``$STATE_DIRECTORY``, else beside the settings file."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(directory or config.parent) / settings.file


def set_aside(path: str | Path) -> Path | None:
    """Move a state file that cannot be used, with its log, out of the way; returns its new name.

    None when the file can be used, or when there is none: then it is left where it is. Raises :class:`StoreError` when
    another process has it.
    """
    path = Path(path)
    try:
        SqliteStore(path).close()
    except StoreError as error:
        if not path.is_file() or "locked" in str(error):
            raise
    else:
        return None
    aside = path.with_name(f"{path.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}")
    for number in itertools.count(1):
        if not aside.exists():
            break
        aside = aside.with_name(f"{path.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}-{number}")
    path.rename(aside)
    for tail in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + tail).rename(aside.with_name(aside.name + tail))
    return aside


def _why(path: Path, error: object) -> str:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return f"{path}: the state file is locked: another imsalg uses it"
    return (
        f"{path}: the state file cannot be used: {error}. Registrations and calls are in it: put a good copy there, or "
        "start once with --set-state-aside, which renames it and begins without any"
    )


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _chunks[T](rows: list[T]) -> Iterator[list[T]]:
    """``rows`` in pieces of a few sizes only, so that the statements for them are compiled once."""
    start = 0
    for size in _ROWS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
