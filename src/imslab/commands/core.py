"""``imslab core``: the small core as a process."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from imskit import logs
from imskit.admin import AdminError, Query, ask
from imskit.driver import run as run_loop
from imskit.settings import SettingsError, load
from imskit.shutdown import Shutdown
from imslab.core.server import CoreServer
from imslab.core.settings import CoreSettings


def core(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings file (TOML).", show_default="built-in users and ports"),
    ] = None,
    authenticate: Annotated[
        bool | None, typer.Option(help="Ask for digest credentials.", show_default="as in the settings")
    ] = None,
    ready_fd: Annotated[
        int | None, typer.Option(help="Write one JSON line with process id and real addresses to this descriptor.")
    ] = None,
) -> None:
    """Run registrar and router (a stand-in for I-CSCF and S-CSCF) until SIGTERM or Ctrl-C."""
    try:
        settings = load(config if config is not None else {}, CoreSettings)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if authenticate is not None:
        settings = replace(settings, authenticate=authenticate)
    logs.configure("info", "text")
    try:
        status = run_loop(_serve(settings, ready_fd))
    except OSError as error:
        typer.echo(f"imslab core cannot start: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(status)


def deregister(
    user: Annotated[str, typer.Argument(help="User part of the address of record.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file of the core; its admin socket is asked.")
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="The core's admin socket, in place of the settings.")] = None,
) -> None:
    """Let the running core end the registration of a user: subscribers are told (RFC 3680)."""
    try:
        path = socket or (load(config, CoreSettings).admin if config is not None else "")
        if not path:
            typer.echo("no admin socket: name one with --socket, or 'admin' in the core's settings", err=True)
            raise typer.Exit(2)
        answer = ask(path, Query("deregister", user), program="imslab core")
    except (SettingsError, AdminError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{answer['user']}: {len(answer['contacts'])} contact(s) de-registered")


async def _serve(settings: CoreSettings, ready_fd: int | None) -> int:
    shutdown = Shutdown()
    async with CoreServer(settings) as server:
        listening = [{"transport": t, "host": host, "port": port} for t, (host, port) in server.addresses.items()]
        logs.get_logger("imslab.core").info("ready", sip=listening, domain=settings.domain)
        if ready_fd is not None:
            with os.fdopen(ready_fd, "wb") as out:
                out.write(msgspec.json.encode({"pid": os.getpid(), "sip": listening}) + b"\n")
        await shutdown.wait()
    return 0
