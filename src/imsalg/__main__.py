"""The command ``imsalg``."""

from pathlib import Path
from typing import Annotated

import typer

from imsalg.settings import Settings
from imsalg.shell.daemon import serve
from imsalg.shell.show import show
from imsalg.shell.sqlite_store import open_store, set_aside, state_file
from imsalg.shell.store import StoreError
from imskit import logs
from imskit.admin import ROWS, AdminError, Query
from imskit.driver import run as run_loop
from imskit.links import check_plain
from imskit.settings import SettingsError, dump, load
from imskit.sockets import parse_endpoint
from imskit.tls import TlsConfigError

app = typer.Typer(
    name="imsalg",
    no_args_is_help=True,
    add_completion=False,
    help="P-CSCF with IMS-ALG: SIP proxy at the IMS access edge, controller of media gateways (3GPP TS 33.328 e2ae).",
    epilog="Examples:  imsalg check --config configs/imsalg.toml  |  imsalg run --config configs/imsalg.toml",
)

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).", show_default=False)]


def _load(config: Path) -> Settings:
    try:
        settings = load(config, Settings)
        check_plain(parse_endpoint(settings.gateways.listen), settings.gateways.insecure)
    except SettingsError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(2) from None
    return settings


@app.command(epilog="Example:  imsalg run --config configs/imsalg.toml")
def run(
    config: Config,
    ready_fd: Annotated[
        int | None, typer.Option(help="Write one JSON line with process id and real addresses to this descriptor.")
    ] = None,
    set_state_aside: Annotated[
        bool, typer.Option(help="Rename a state file that cannot be used and begin without; a good one is kept.")
    ] = False,
) -> None:
    """Serve until SIGTERM or SIGINT, a second one ends at once; SIGHUP reopens the trace file and reloads settings and
    certificates."""
    settings = _load(config)
    logs.configure(settings.log.level, settings.log.format)
    try:
        if (
            set_state_aside
            and settings.state.store == "sqlite"
            and (aside := set_aside(state_file(settings.state, config)))
        ):
            typer.echo(f"imsalg: the old state is in {aside}", err=True)
        status = run_loop(serve(settings, open_store(settings.state, config), config, ready_fd))
    except (SettingsError, TlsConfigError, StoreError, OSError) as error:
        typer.echo(f"imsalg cannot start: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(status)


@app.command(epilog="Example:  imsalg check --config configs/imsalg.toml")
def check(config: Config) -> None:
    """Read the settings, name every problem, or print what is in effect, without secrets."""
    settings = _load(config)
    shown = dump(settings)
    if settings.imsalg.token_key:  # what a unit's ExecStartPre prints stands in the journal
        shown = shown.replace(settings.imsalg.token_key, "(set)")
    typer.echo(shown, nl=False)


show_app = typer.Typer(
    no_args_is_help=True,
    help="Look into a running imsalg over its admin socket ('socket' in the table 'admin' of the settings).",
    epilog="Examples:  imsalg show calls -c configs/imsalg.toml  |  imsalg show call CALL-ID --socket PATH --json",
)
app.add_typer(show_app, name="show")

MaybeConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file that names the socket.", show_default=False)
]
Socket = Annotated[Path | None, typer.Option("--socket", "-s", help="The admin socket itself.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, help="Rows at most.")]


def _ask(query: Query, config: Path | None, socket: Path | None, *, as_json: bool) -> None:
    if socket is None and config is not None:
        named = _load(config).admin.socket
        if named is None:
            typer.echo(
                f"{config}: the table 'admin' has no 'socket': this daemon cannot be asked. Write one there "
                "(socket = '/run/imsalg/imsalg.sock', say) and restart the daemon",
                err=True,
            )
            raise typer.Exit(2)
        socket = Path(named)
    if socket is None:
        typer.echo("give --config FILE or --socket PATH: whom shall be asked?", err=True)
        raise typer.Exit(2)
    try:
        show(socket, query, as_json=as_json)
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@show_app.command(epilog="Example:  imsalg show calls -c configs/imsalg.toml")
def calls(config: MaybeConfig = None, socket: Socket = None, json: Json = False, limit: Limit = ROWS) -> None:
    """Calls with the security of each media line."""
    _ask(Query("calls", limit=limit), config, socket, as_json=json)


@show_app.command(epilog="Example:  imsalg show call 5f3c... -c configs/imsalg.toml")
def call(
    id: Annotated[str, typer.Argument(metavar="ID", help="Call-ID or key, or how it begins.")],
    config: MaybeConfig = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Everything about one call; a call that passes the edge twice is two."""
    _ask(Query("call", id), config, socket, as_json=json)


@show_app.command(epilog="Example:  imsalg show registrations alice -c configs/imsalg.toml")
def registrations(
    user: Annotated[str, typer.Argument(help="Address of record, or its user part.", show_default=False)] = "",
    config: MaybeConfig = None,
    socket: Socket = None,
    json: Json = False,
    limit: Limit = ROWS,
) -> None:
    """Registered contacts and what media security they agreed to."""
    _ask(Query("registrations", user, limit), config, socket, as_json=json)


@show_app.command(epilog="Example:  imsalg show gateways -c configs/imsalg.toml")
def gateways(config: MaybeConfig = None, socket: Socket = None, json: Json = False) -> None:
    """Media gateways, their state and load."""
    _ask(Query("gateways"), config, socket, as_json=json)


@show_app.command(epilog="Example:  imsalg show state -c configs/imsalg.toml")
def state(config: MaybeConfig = None, socket: Socket = None, json: Json = False) -> None:
    """How much is kept for the next start, and how much of it is not written yet."""
    _ask(Query("state"), config, socket, as_json=json)


@app.command(epilog="Example:  imsalg drain -c configs/imsalg.toml --deadline 300")
def drain(
    config: MaybeConfig = None,
    socket: Socket = None,
    deadline: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which calls that are left are released; none: never.")
    ] = None,
    json: Json = False,
) -> None:
    """Refuse new calls with 503 and Retry-After; calls in progress go on."""
    _ask(Query("drain", "" if deadline is None else str(deadline)), config, socket, as_json=json)


@app.command(epilog="Example:  imsalg undrain -c configs/imsalg.toml")
def undrain(config: MaybeConfig = None, socket: Socket = None, json: Json = False) -> None:
    """Take new calls again."""
    _ask(Query("undrain"), config, socket, as_json=json)


@app.command(epilog="Example:  imsalg reload -c configs/imsalg.toml")
def reload(config: MaybeConfig = None, socket: Socket = None, json: Json = False) -> None:
    """Read settings and certificates again: all of them take effect, or nothing changes and the reasons are named."""
    _ask(Query("reload"), config, socket, as_json=json)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
