"""The command ``agw``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from agw.settings import Settings, port_slice
from agw.shell.operate import log_keys_of, rest_all, rotate_all
from agw.shell.show import show
from agw.shell.supervisor import UNUSABLE, die_with_parent, run_supervisor, worker_count
from agw.shell.worker import run_worker
from imskit.admin import ROWS, AdminError
from imskit.driver import run as run_loop
from imskit.links import check_plain
from imskit.settings import SettingsError, dump, load
from imskit.sockets import parse_endpoint
from imskit.tls import TlsConfigError

app = typer.Typer(
    name="agw",
    no_args_is_help=True,
    add_completion=False,
    help="IMS-AGW: media gateway of the IMS access edge. Terminates TLS of MSRP media as its controller (the IMS-ALG) "
    "orders by H.248.",
    epilog="Examples:  agw check --config configs/agw.toml  |  agw run --config configs/agw.toml",
)

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).", show_default=False)]


def _load(config: Path) -> Settings:
    try:
        settings = load(config, Settings)
        check_plain(parse_endpoint(settings.agw.controller), settings.agw.insecure)
        for name, realm in settings.realm.items():
            try:
                port_slice(realm.ports, 0, worker_count(settings))
            except ValueError as error:
                raise SettingsError([f"{config}: [realm.{name}] {error}"]) from None
    except SettingsError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(UNUSABLE) from None
    return settings


@app.command(epilog="Examples:  agw run --config configs/agw.toml  |  agw run -c configs/agw.toml --worker 0")
def run(
    config: Config,
    worker: Annotated[
        int | None, typer.Option(min=0, help="Be only this worker, without a supervisor (0 is the first).")
    ] = None,
    ready_fd: Annotated[
        int | None,
        typer.Option(
            help="Write one JSON line with the process ids to this descriptor once all workers are in service."
        ),
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then leave service in order (a second signal ends at once); SIGHUP reopens the
    trace file and reads the certificates again."""
    settings = _load(config)
    count = worker_count(settings)
    if worker is not None and worker >= count:
        typer.echo(f"--worker is {worker}, but the workers are 0 to {count - 1}", err=True)
        raise typer.Exit(UNUSABLE)
    try:
        if worker is None:
            status = run_loop(run_supervisor(settings, config, ready_fd))
        else:
            die_with_parent()
            status = run_loop(run_worker(settings, worker, count, ready_fd))
    except (SettingsError, TlsConfigError) as error:
        typer.echo(f"agw cannot start: {error}", err=True)
        raise typer.Exit(UNUSABLE) from None
    except OSError as error:
        typer.echo(f"agw cannot start: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(status)


@app.command(epilog="Example:  agw check --config configs/agw.toml")
def check(config: Config) -> None:
    """Read the settings, name every problem, or print what is in effect."""
    typer.echo(dump(_load(config)), nl=False)


show_app = typer.Typer(
    no_args_is_help=True,
    help="Look into running workers over their admin sockets ('socket' in the table 'admin' of the settings).",
    epilog="Examples:  agw show contexts -c configs/agw.toml  |  agw show context agw-1/4 --socket PATH --json",
)
app.add_typer(show_app, name="show")

MaybeConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file that names the socket.", show_default=False)
]
Socket = Annotated[
    Path | None,
    typer.Option("--socket", "-s", help="The admin socket as in the settings, or one worker's.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]


def _socket_of(config: Path | None, socket: Path | None) -> Path:
    if socket is None and config is not None:
        named = _load(config).admin.socket
        if named is None:
            typer.echo(
                f"{config}: the table 'admin' has no 'socket': this daemon cannot be asked. Write one there "
                "(socket = '/run/agw/agw.sock', say) and restart the daemon",
                err=True,
            )
            raise typer.Exit(UNUSABLE)
        socket = Path(named)
    if socket is None:
        typer.echo("give --config FILE or --socket PATH: whom shall be asked?", err=True)
        raise typer.Exit(UNUSABLE)
    return socket


def _ask(command: str, id: str, limit: int, config: Path | None, socket: Path | None, *, as_json: bool) -> None:
    socket = _socket_of(config, socket)
    try:
        problems = show(socket, command, id, limit, as_json=as_json)
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    for problem in problems:
        typer.echo(problem, err=True)


@show_app.command(epilog="Example:  agw show contexts -c configs/agw.toml")
def contexts(
    config: MaybeConfig = None,
    socket: Socket = None,
    json: Json = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of each worker at most.")] = ROWS,
) -> None:
    """Contexts of all workers with the security of each."""
    _ask("contexts", "", limit, config, socket, as_json=json)


@show_app.command(epilog="Example:  agw show context agw-1/4 -c configs/agw.toml")
def context(
    id: Annotated[str, typer.Argument(metavar="ID", help="Number of the context, or WORKER/NUMBER.")],
    config: MaybeConfig = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Everything about one context and its terminations."""
    _ask("context", id, ROWS, config, socket, as_json=json)


@show_app.command(epilog="Example:  agw show workers -c configs/agw.toml")
def workers(config: MaybeConfig = None, socket: Socket = None, json: Json = False) -> None:
    """Worker processes, their state and load."""
    _ask("workers", "", ROWS, config, socket, as_json=json)


@app.command(epilog="Example:  agw rotate -c configs/agw.toml")
def rotate(config: MaybeConfig = None, socket: Socket = None) -> None:
    """Let all workers read their certificates again; sessions that run keep theirs (as SIGHUP does)."""
    _order(rotate_all, config, socket)


Only = Annotated[str, typer.Option(metavar="NAME", help="This worker alone (as 'agw show workers' calls it).")]


@app.command(epilog="Examples:  agw drain -c configs/agw.toml  |  agw drain -c configs/agw.toml --worker agw-1")
def drain(config: MaybeConfig = None, socket: Socket = None, worker: Only = "") -> None:
    """Take nothing new and tell the controller; sessions that run go on until they end. The process stays."""
    _order(lambda path: rest_all(path, True, worker), config, socket)


@app.command(epilog="Example:  agw undrain -c configs/agw.toml")
def undrain(config: MaybeConfig = None, socket: Socket = None, worker: Only = "") -> None:
    """Take new sessions again."""
    _order(lambda path: rest_all(path, False, worker), config, socket)


@app.command(epilog="Example:  agw keylog --context agw-1/4 --file /tmp/keys.txt -c configs/agw.toml")
def keylog(
    context: Annotated[str, typer.Option(metavar="ID", help="Number of the context, or WORKER/NUMBER.")],
    file: Annotated[Path, typer.Option("--file", "-f", help="Secrets are appended here (SSLKEYLOGFILE format).")],
    config: MaybeConfig = None,
    socket: Socket = None,
) -> None:
    """Log the TLS secrets of one context, for debugging: with them anybody reads its media in a capture."""
    _order(lambda path: log_keys_of(path, context, file), config, socket)


def _order(order: Callable[[Path], list[str]], config: Path | None, socket: Path | None) -> None:
    try:
        for line in order(_socket_of(config, socket)):
            typer.echo(line)
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
