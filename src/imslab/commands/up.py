"""``imslab up``: the whole lab, a demonstration, and then service until Ctrl-C."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule

from imskit import logs
from imskit.driver import run as run_loop
from imskit.shutdown import Shutdown
from imslab.commands.ladder import show
from imslab.lab import Lab, default_config_dir
from imslab.ladder.read import TraceError
from imslab.process import LabError
from imslab.scenario import Chat, Check, chat, ladder_checks, ladders_of
from imslab.ue.call import SipFailure
from imslab.ue.chat import ChatError
from imslab.ue.media import NotAcceptable
from imswire.sip.uri import bracketed

_WIDTH = 120


def up(
    once: Annotated[
        bool, typer.Option("--once", help="End after the demonstration; status 0 if all was well.")
    ] = False,
    config_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with core.toml, imsalg.toml and agw.toml.", show_default="configs/lab", file_okay=False
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder for logs and traces.", show_default="a new one", file_okay=False)
    ] = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Use any free ports instead of those in the settings.")
    ] = False,
) -> None:
    """Start core, P-CSCF/IMS-ALG and IMS-AGW on loopback, let two UEs chat each way, show the ladders, and keep
    serving.
    """
    logs.configure("warning", "text")
    raise typer.Exit(run_loop(_Up(once, config_dir or default_config_dir(), run_dir, free_ports).main()))


class _Up:
    """The steps of the command."""

    def __init__(self, once: bool, config_dir: Path, run_dir: Path | None, free_ports: bool) -> None:
        console = Console(highlight=False)
        # Into a file or a pipe the ladder keeps a width at which it reads well.
        self.console = console if console.is_terminal else Console(highlight=False, width=_WIDTH)
        self._once = once
        self._directory = run_dir or Path(tempfile.mkdtemp(prefix="imslab-run-"))
        self._lab = Lab(config_dir=config_dir, directory=self._directory, fixed_ports=not free_ports)

    async def main(self) -> int:
        """Everything, in order; the exit status."""
        shutdown = Shutdown()
        console = self.console
        console.print(Rule("[bold]IMS media plane security at the access edge[/]"))
        self._lab.on_step = lambda name, text: console.print(
            f"[green]✔[/] {_NAMES[name]:<22} {escape(text)}", soft_wrap=True
        )
        try:
            with console.status("starting the lab"):
                await self._lab.start()
            good = await self._demonstration()
            if not self._once:
                self._how_to()
                console.print("\nserving; [bold]Ctrl-C[/] stops everything")
                await shutdown.wait()
        except (LabError, TraceError, SipFailure, ChatError, NotAcceptable, TimeoutError, OSError) as error:
            console.print(f"[red]✘[/] {escape(str(error) or 'no answer in time')}")
            console.print(f"  logs and traces: {escape(str(self._directory))}")
            good = False
        finally:
            with console.status("stopping"):
                await self._lab.stop()
        console.print("stopped" if not self._once else f"logs and traces: {escape(str(self._directory))}")
        return 0 if good else 1

    async def _demonstration(self) -> bool:
        console, lab = self.console, self._lab
        checks: list[Check] = []
        with console.status("registering two UEs") as status:
            agents = [await lab.ue("alice"), await lab.ue("bob")]
            for agent in agents:
                registration = agent.registration
                agreed = ", ".join(sorted(registration.agreed)) if registration is not None else ""
                digest = registration.algorithm if registration is not None else ""
                console.print(
                    f"[green]✔[/] {agent.account.aor} registered, digest {digest}, agreed [bold]{agreed or '-'}[/]"
                )
                checks.append(Check(f"{agent.account.user} and the P-CSCF agreed on msrp-tls", "msrp-tls" in agreed))
            chats: list[Chat] = []
            for caller, called in (agents, reversed(agents)):
                chats.append(await chat(caller, called, self._directory, _reporter(status.update)))
                console.print(f"[green]✔[/] {chats[-1].caller} called {chats[-1].called}: texts, a file, hung up")
            status.update("reading the traces")
            ladders = await ladders_of(lab, chats)
            for agent in agents:
                await agent.unregister()
        console.print()
        show(console, ladders, min(console.width, 132))
        console.print()
        for one in chats:
            checks += [Check(f"{one.caller} → {one.called}: {check.text}", check.good) for check in one.checks]
        checks += ladder_checks(ladders, len(chats))
        console.print(_summary(checks))
        return all(check.good for check in checks)

    def _how_to(self) -> None:
        """What a visitor can do now; the commands stand on lines of their own, to be copied."""
        lab, console = self._lab, self.console
        host, port = lab.address("access")
        server = f"{bracketed(host)}:{port}"
        at = f"--registrar sip:{server}"
        users = ", ".join(f"{user} / {password}" for user, password in lab.users().items())
        command = _own_command()
        console.print(Rule("look further", align="left"))
        for text, lines in (
            (
                "Register a softphone",
                (f"server or outbound proxy {server}, UDP or TCP; domain {lab.domain}; user / password: {users}",),
            ),
            (
                "Two more UEs, in two terminals",
                (
                    f"{command} ue --user carol --password carol-secret {at} --answer --echo",
                    f"{command} ue --user dave --password dave-secret {at} --call sip:carol@{lab.domain} "
                    "--text hello --file README.md",
                ),
            ),
            (
                "Ladders of everything so far",
                (
                    f"{command} ladder {self._directory}/*.trace.jsonl",
                    f"{command} ladder {self._directory}/*.trace.jsonl --format svg --output calls.svg",
                ),
            ),
            ("Logs, traces and the settings in effect", (str(self._directory),)),
        ):
            console.print(f"[bold]{text}[/]")
            for line in lines:
                console.print(f"  {escape(line)}", soft_wrap=True)


_NAMES = {"core": "core (registrar)", "imsalg": "P-CSCF / IMS-ALG", "agw": "IMS-AGW"}


def _own_command() -> str:
    """How this command was called, for examples that can be copied."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "imslab" else f"{sys.executable} -m imslab"


def _reporter(update: Callable[..., None]) -> Callable[[str], None]:
    return lambda text: update(escape(text))


def _summary(checks: list[Check]) -> Panel:
    lines = [f"{'[green]✔[/]' if check.good else '[red]✘[/]'} {escape(check.text)}" for check in checks]
    failed = sum(not check.good for check in checks)
    title = "all verified" if not failed else f"{failed} of {len(checks)} failed"
    return Panel("\n".join(lines), title=title, title_align="left", border_style="green" if not failed else "red")
