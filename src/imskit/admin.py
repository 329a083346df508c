"""The admin socket of a daemon: one JSON request line in, one JSON answer line out, over a local UNIX socket.

A request is ``{"command": "calls", "id": "", "limit": 1000}``, an answer ``{"result": ...}`` or ``{"error": "..."}``.
The socket belongs to the daemon's user and is closed to everybody else (mode 0600), so it asks for no password.
Everything is bounded: connections, octets of a request, time of an exchange, rows of an answer.
"""

import asyncio
import contextlib
import errno
import os
import pwd
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from imskit.exchange import SECONDS, Exchanges
from imskit.logs import get_logger
from imskit.plain_json import to_json
from imskit.settings import SettingsError

log = get_logger("imskit.admin")

ROWS = 1_000
"""Rows of a list, unless the request says otherwise."""

_REQUEST_LIMIT = 4_096  # octets of a request line
_ANSWER_LIMIT = 64 * 1024 * 1024  # octets of an answer line
_ROW_LIMIT = 100_000
_SUN_PATH = 107  # octets of a UNIX socket's address (unix(7))


class AdminError(Exception):
    """An admin request that has no answer; the text is a sentence for the person who asked."""


class Query(Struct, frozen=True):
    """What is asked for: ``id`` chooses one of the things that ``command`` lists, ``limit`` bounds the rows, ``file``
    tells where something is to be written."""

    command: str
    id: str = ""
    limit: int = ROWS
    file: str = ""


class _Answer(Struct, frozen=True, omit_defaults=True):
    result: Any = None
    error: str = ""


type Handler = Callable[[Query], object | Awaitable[object]]
"""Gives plain values (dicts, lists, strings, numbers), at once or when it is awaited; raises :class:`AdminError` for
what does not exist."""


class AdminServer:
    """Answers the commands of ``handlers``, each with what its handler returns."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._exchanges = Exchanges("admin", self._exchange)
        self._path: Path | None = None
        self._inode = 0

    async def start(self, path: str | Path) -> None:
        """Listen at ``path``. A socket that a dead daemon left there is replaced.

        Raises SettingsError when the path cannot be used, or when another process listens there.
        """
        path = Path(path)
        _make_room(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)  # the socket is born closed to others; nothing else runs meanwhile
        try:
            with _address(path) as address:
                sock.bind(address)
            self._inode = path.stat().st_ino
        except OSError as error:
            sock.close()
            raise SettingsError([f"[admin] socket {path}: {error.strerror}"]) from None
        finally:
            os.umask(before)
        self._path = path
        self._server = await asyncio.start_unix_server(self._exchanges.serve, sock=sock, limit=_REQUEST_LIMIT)

    async def close(self) -> None:
        """Stop listening, end what goes on, and take the socket away, unless it is another's by now."""
        if self._server is None or self._path is None:
            return
        self._server.close()
        self._exchanges.abort()
        await self._server.wait_closed()
        self._server = None
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return _error(f"the request has more than {_REQUEST_LIMIT} octets")
        except asyncio.IncompleteReadError:
            return _error("the request has no line end")
        try:
            query = msgspec.json.decode(line, type=Query)
        except msgspec.DecodeError as error:
            return _error(f"not a request: {error}")
        handler = self._handlers.get(query.command)
        if handler is None:
            return _error(f"unknown command {query.command[:40]!r}; there are {', '.join(sorted(self._handlers))}")
        if not 0 < query.limit <= _ROW_LIMIT:
            return _error(f"'limit' is {query.limit}, expected 1 to {_ROW_LIMIT}")
        try:
            result = handler(query)
            if isinstance(result, Awaitable):
                result = await result
            return to_json(_Answer(result=result)) + b"\n"
        except AdminError as error:
            return _error(str(error))
        except Exception as error:  # outermost door: a look at the daemon must not disturb it
            log.error("admin request failed", command=query.command, exc_info=error)
            return _error(f"the daemon failed to answer: {error!r}")


def _error(text: str) -> bytes:
    return to_json(_Answer(error=text)) + b"\n"


def ask(path: str | Path, query: Query, *, program: str = "the daemon", seconds: float = SECONDS) -> Any:
    """Ask the daemon behind ``path`` and wait for its answer; raises :class:`AdminError` with what to do about it.

    For commands, not for daemons: it blocks. ``program`` names the daemon in the texts.
    """
    path = Path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(seconds)
        try:
            with _address(path) as address:
                sock.connect(address)
            sock.sendall(to_json(query) + b"\n")
            line = _read_line(sock)
        except OSError as error:
            raise AdminError(_why(path, error, program, seconds)) from None
    try:
        answer = msgspec.json.decode(line, type=_Answer)
    except msgspec.DecodeError:
        raise AdminError(f"{path}: {program} gave no whole answer") from None
    if answer.error:
        raise AdminError(answer.error)
    return answer.result


def _read_line(sock: socket.socket) -> bytes:
    data = bytearray()
    while len(data) <= _ANSWER_LIMIT:
        piece = sock.recv(262_144)
        if not piece or piece.endswith(b"\n"):
            return bytes(data + piece)
        data += piece
    return b""


def _why(path: Path, error: OSError, program: str, seconds: float) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such socket. Either {program} does not run, or its settings name another [admin] socket"
    if isinstance(error, ConnectionRefusedError):
        return f"{path}: nobody listens there. {program} has ended without taking its socket away; start it again"
    if isinstance(error, PermissionError):
        return f"{path}: no permission{_owner(path)}"
    if isinstance(error, TimeoutError):
        return f"{path}: {program} did not answer within {seconds:g} s. Is it stopped, or very busy?"
    return f"{path}: {error.strerror or error}"


def _owner(path: Path) -> str:
    try:
        name = pwd.getpwuid(path.stat().st_uid).pw_name
    except (OSError, KeyError):
        return "; ask as the user that the daemon runs as, or as root"
    return f"; the socket is {name}'s alone: ask as {name} or as root"


def _make_room(path: Path) -> None:
    """Take a dead daemon's socket away; raises SettingsError for a living one's and for what is no socket."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError([f"[admin] socket {path}: {error.strerror}"]) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise SettingsError([f"[admin] socket {path}: there is a file of that name that is no socket"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            with _address(path) as address:
                probe.connect(address)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise SettingsError([f"[admin] socket {path}: {error.strerror or error}"]) from None
    raise SettingsError([f"[admin] socket {path}: another process answers there"])


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """An address for ``path`` that fits: a long one is reached through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def numbered(path: str | Path, number: int) -> Path:
    """The socket of one of several processes that share a setting: ``agw.sock`` and 1 make ``agw-1.sock``."""
    path = Path(path)
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def all_numbered(path: str | Path) -> list[Path]:
    """The sockets of :func:`numbered` that exist, in the order of their numbers."""
    path = Path(path)
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            number = entry.name.removeprefix(f"{path.stem}-").removesuffix(path.suffix)
            if number.isdecimal() and entry.name == f"{path.stem}-{number}{path.suffix}":
                found.append((int(number), entry))
    return [entry for _, entry in sorted(found)]
