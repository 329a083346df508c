"""The command ``imsalg``."""

from pathlib import Path
from typing import Annotated

import typer

from imsalg.settings import Settings
from imsalg.shell.daemon import serve
from imskit import logs
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
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reopens the trace file."""
    settings = _load(config)
    logs.configure(settings.log.level, settings.log.format)
    try:
        status = run_loop(serve(settings, ready_fd))
    except (SettingsError, TlsConfigError, OSError) as error:
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


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
