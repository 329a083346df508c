"""The command ``agw``."""

from pathlib import Path
from typing import Annotated

import typer

from agw.settings import Settings, port_slice
from agw.shell.supervisor import UNUSABLE, die_with_parent, run_supervisor, worker_count
from agw.shell.worker import run_worker
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
    """Serve until SIGTERM or SIGINT, then leave service in order; SIGHUP reopens the trace file."""
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


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
