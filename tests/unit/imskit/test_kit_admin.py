"""The admin socket: asked and answered over a real UNIX socket, with its bounds and its refusals."""

import asyncio
import os
import pwd
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imskit import admin, exchange
from imskit.admin import AdminError, AdminServer, Query, all_numbered, ask, numbered
from imskit.driver import run
from imskit.settings import SettingsError


def shown(query: Query) -> object:
    if query.id == "none":
        raise AdminError("no such thing")
    return {"id": query.id, "limit": query.limit}


async def later(query: Query) -> object:
    await asyncio.sleep(0)
    return shown(query)


def broken(query: Query) -> object:
    raise KeyError(query.command)


def serve[T](path: Path, use: Callable[[], Awaitable[T]]) -> T:
    """What ``use`` returns while a server listens at ``path``."""
    results: list[T] = []

    async def main() -> int:
        server = AdminServer(
            {"show": shown, "broken": broken, "later": later, "big": lambda query: ["x" * 1000] * query.limit}
        )
        await server.start(path)
        try:
            async with asyncio.timeout(10):
                results.append(await use())
        finally:
            await server.close()
        return 0

    assert run(main()) == 0
    return results[0]


def answer(path: Path, *queries: Query) -> list[Any]:
    """Results, and texts of errors, as :func:`ask` gives them."""

    def each() -> list[Any]:
        found: list[Any] = []
        for query in queries:
            try:
                found.append(ask(path, query, program="testd"))
            except AdminError as error:
                found.append(str(error))
        return found

    return serve(path, lambda: asyncio.to_thread(each))


def raw(path: Path, request: bytes) -> bytes:
    async def exchange() -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        if not request.endswith(b"\n"):
            writer.write_eof()
        data = await reader.read()
        writer.close()
        return data

    return serve(path, exchange)


def test_a_request_is_answered(tmp_path: Path) -> None:
    one, other = answer(tmp_path / "a.sock", Query("show", "7"), Query("show", limit=3))
    assert one == {"id": "7", "limit": admin.ROWS}
    assert other == {"id": "", "limit": 3}


def test_an_answer_may_take_its_time(tmp_path: Path) -> None:
    one, missing = answer(tmp_path / "a.sock", Query("later", "7"), Query("later", "none"))
    assert one == {"id": "7", "limit": admin.ROWS}
    assert missing == "no such thing"


def test_a_long_answer_comes_whole(tmp_path: Path) -> None:
    (rows,) = answer(tmp_path / "a.sock", Query("big", limit=3_000))
    assert len(rows) == 3_000


def test_refusals_are_sentences(tmp_path: Path) -> None:
    unknown, missing, bug, limit = answer(
        tmp_path / "a.sock", Query("other"), Query("show", "none"), Query("broken"), Query("show", limit=0)
    )
    assert unknown == "unknown command 'other'; there are big, broken, later, show"
    assert missing == "no such thing"
    assert "failed to answer" in bug
    assert "'limit'" in limit


@pytest.mark.parametrize(
    "request_, words",
    [
        (b"nonsense\n", "not a request"),
        (b'{"command": 1}\n', "not a request"),
        (b'{"command": "show"', "no line end"),
        (b"", "no line end"),
        (b" " * 9_000 + b"\n", "more than 4096 octets"),
    ],
)
def test_what_is_no_request(tmp_path: Path, request_: bytes, words: str) -> None:
    assert words in msgspec.json.decode(raw(tmp_path / "a.sock", request_))["error"]


def test_the_socket_is_for_its_owner_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"

    async def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert serve(path, mode) == 0o600
    assert not path.exists()


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    assert answer(deep / "a.sock", Query("show", "7")) == [{"id": "7", "limit": admin.ROWS}]
    assert list(deep.iterdir()) == []


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(AdminError, match="nobody listens"):
        ask(path, Query("show"))

    async def second() -> str:
        with pytest.raises(SettingsError, match="another process answers"):
            await AdminServer({}).start(path)
        return "refused"

    assert serve(path, second) == "refused"


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="no socket"):
        run(AdminServer({}).start(path))
    with pytest.raises(SettingsError, match="No such file"):
        run(AdminServer({}).start(tmp_path / "gone" / "a.sock"))
    assert path.read_text() == "precious"


def test_without_a_daemon_the_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match="Either testd does not run"):
        ask(tmp_path / "a.sock", Query("show"), program="testd")


def test_a_refused_permission_names_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refused)  # root passes every mode, so the kernel cannot be asked
    with pytest.raises(AdminError, match=f"the socket is {pwd.getpwuid(os.getuid()).pw_name}'s alone"):
        ask(tmp_path, Query("show"))


def test_a_daemon_that_hangs_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen(1)
        with pytest.raises(AdminError, match=r"did not answer within 0\.05 s"):
            ask(path, Query("show"), seconds=0.05)


def test_a_client_that_says_nothing_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SECONDS", 0.05)
    path = tmp_path / "a.sock"

    async def silent() -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    assert serve(path, silent) == b""


def test_sockets_of_several_processes(tmp_path: Path) -> None:
    base = tmp_path / "agw.sock"
    for number in (2, 10, 1):
        numbered(base, number).touch()
    (tmp_path / "agw-x.sock").touch()
    assert [path.name for path in all_numbered(base)] == ["agw-1.sock", "agw-2.sock", "agw-10.sock"]
    assert all_numbered(tmp_path / "gone" / "agw.sock") == []
