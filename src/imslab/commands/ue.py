"""``imslab ue``: one UE in the terminal."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from imskit import logs
from imskit.common_settings import MediaTlsSettings
from imskit.driver import run as run_loop
from imskit.driver import spawn
from imskit.shutdown import Shutdown
from imslab.ladder.describe import clean
from imslab.ue.agent import Account, Registration, UeAgent, UeOptions
from imslab.ue.call import Call, SipFailure
from imslab.ue.chat import ChatError, ChatSession, Incoming
from imslab.ue.floor import FloorError, FloorHost
from imslab.ue.link import MsrpLink
from imslab.ue.media import FloorOptions, MediaOptions, NotAcceptable
from imswire.bfcp.client import RequestInfo
from imswire.bfcp.floor_values import Floor
from imswire.bfcp.tables import Status
from imswire.sdp.attributes import Setup


def ue(
    user: Annotated[str, typer.Option(help="User part of the public identity.")],
    password: Annotated[str, typer.Option(help="Digest password.", envvar="IMSLAB_PASSWORD")] = "",
    registrar: Annotated[
        str, typer.Option(help="SIP URI of the P-CSCF; ;transport=tcp or tls for those.")
    ] = "sip:127.0.0.1:5060",
    ca: Annotated[
        Path | None, typer.Option(help="PEM file to verify a P-CSCF reached by TLS.", exists=True, dir_okay=False)
    ] = None,
    domain: Annotated[str, typer.Option(help="Home domain.")] = "lab.example",
    host: Annotated[str, typer.Option(help="Own address.")] = "127.0.0.1",
    call: Annotated[str | None, typer.Option(help="Call this SIP URI.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Send this text in the call; may be repeated.")] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="Send this file in the call; may be repeated.", exists=True, dir_okay=False),
    ] = None,
    answer: Annotated[bool, typer.Option("--answer", help="Answer calls until Ctrl-C.")] = False,
    echo: Annotated[bool, typer.Option("--echo", help="With --answer: send every text back.")] = False,
    folder: Annotated[Path, typer.Option(help="Where received files are kept.", file_okay=False)] = Path("."),
    mediasec: Annotated[bool, typer.Option(help="Announce msrp-tls;mediasec (TS 24.229).")] = True,
    secure: Annotated[bool, typer.Option(help="Offer TCP/TLS/MSRP with 3ge2ae:requested.")] = True,
    setup: Annotated[Literal["actpass", "active", "passive"], typer.Option(help="a=setup of an offer.")] = "actpass",
    answer_setup: Annotated[Literal["active", "passive"], typer.Option(help="a=setup of an answer.")] = "active",
    match: Annotated[
        Literal["strict", "session-id"], typer.Option(help="How To-Path is compared (RFC 4975 6.1).")
    ] = "strict",
    floor: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Add a BFCP line. With --call: request this floor, release it at the end; with --answer: be the floor "
            "control server of floors 1 to this one.",
        ),
    ] = None,
    tls_max: Annotated[Literal["1.2", "1.3"], typer.Option(help="Highest TLS version.")] = "1.3",
) -> None:
    """Register a UE; call somebody, or answer; exchange texts and files over MSRP, secured to the access edge."""
    logs.configure("warning", "text")
    media = MediaOptions(
        secure=secure,
        offer_setup=Setup(setup),
        answer_setup=Setup(answer_setup),
        match=match,
        tls=MediaTlsSettings(max_version=tls_max),
        floor=_floor_options(floor, serve=answer and call is None),
    )
    mechanisms = ("msrp-tls",) if floor is None else ("msrp-tls", "bfcp-tls")
    options = UeOptions(host=host, mediasec=mechanisms if mediasec else (), media=media, folder=folder, ca=ca)
    agent = UeAgent(Account(user, password, domain, registrar), options)
    raise typer.Exit(run_loop(_UeCommand(agent, floor).main(call, text or [], file or [], answer=answer, echo=echo)))


def _floor_options(floor: int | None, *, serve: bool) -> FloorOptions | None:
    if floor is None:
        return None
    if not serve:
        return FloorOptions("client")
    host = FloorHost(floors=[Floor(number) for number in range(1, floor + 1)])
    return FloorOptions("server", host=host, streams=tuple(str(9 + number) for number in range(1, floor + 1)))


class _UeCommand:
    """What the command does with its agent, and how it shows it."""

    def __init__(self, agent: UeAgent, floor: int | None = None) -> None:
        self.agent = agent
        self.floor = floor
        self.console = Console(highlight=False)

    async def main(self, call: str | None, texts: list[str], files: list[Path], *, answer: bool, echo: bool) -> int:
        shutdown = Shutdown()
        async with self.agent:
            try:
                self._registered(await self.agent.register())
                if call is not None:
                    await self._caller(call, texts, files)
                if answer:
                    await self._callee(shutdown, echo)
                await self.agent.unregister()
            except SipFailure as failure:
                return self._failed(f"refused with {failure}")
            except TimeoutError:
                return self._failed("no answer in time")
            except (ChatError, FloorError, NotAcceptable, OSError) as error:
                return self._failed(str(error))
        return 0

    def _registered(self, registration: Registration) -> None:
        agreed = ", ".join(sorted(registration.agreed)) or "nothing"
        digest = f" with digest {registration.algorithm}" if registration.algorithm else ""
        self.console.print(
            f"[green]✔[/] {escape(self.agent.account.aor)} registered for {registration.expires} s{digest}; "
            f"media security agreed: [bold]{agreed}[/]"
        )

    def _failed(self, text: str) -> int:
        self.console.print(f"[red]✘[/] {escape(clean(text, 400))}")
        return 1

    async def _caller(self, uri: str, texts: list[str], files: list[Path]) -> None:
        self.console.print(f"… calling {escape(uri)}")
        call = await self.agent.call(uri, deadline=60.0)
        await call.session.opened()
        self._opened("MSRP", call.session.link)
        granted = None if self.floor is None else await self._request_floor(call, self.floor)
        for text in texts:
            await call.session.send_text(text)
            self.console.print(f"[cyan]→[/] {escape(text)}")
        for path in files:
            await self._send(call.session, path)
        while not call.session.received.empty():
            self._show(call.session.received.get_nowait())
        if granted is not None:
            await call.floor.release(granted.id)
            self.console.print(f"floor {self.floor} released")
        await call.hangup()
        self.console.print("call ended")

    async def _send(self, session: ChatSession, path: Path) -> None:
        columns = (TextColumn("[cyan]→[/] {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(escape(path.name), total=None)
            sent = await session.send_file(
                path, progress=lambda done, total: progress.update(bar, completed=done, total=total)
            )
        self.console.print(f"[green]✔[/] {escape(path.name)} received by the peer, sha-256 {sent.sha256}")

    async def _request_floor(self, call: Call, floor: int) -> RequestInfo:
        await call.floor.opened()
        self._opened("BFCP", call.floor.link)
        asked = await call.floor.request(floor)
        place = f", place {asked.position} in the queue" if asked.position else ""
        status = "of unknown status" if asked.status is None else asked.status.name.lower()
        self.console.print(f"[cyan]→[/] floor {floor} requested: [bold]{status}[/]{place}")
        granted = await call.floor.status(asked.id, Status.GRANTED, deadline=60.0)
        self.console.print(f"[green]✔[/] floor {floor} granted")
        return granted

    def _opened(self, what: str, link: MsrpLink | None) -> None:
        if link is not None:
            how = link.tls_version.replace("TLSv", "TLS ") or "plain TCP"
            self.console.print(
                f"[green]✔[/] {what} over [bold]{how}[/] with {link.peer[0]}:{link.peer[1]}"
                + (", fingerprint verified" if link.tls_version else "")
            )

    async def _callee(self, shutdown: Shutdown, echo: bool) -> None:
        self.console.print("waiting for calls; Ctrl-C ends")
        ending = spawn(shutdown.wait(), name="shutdown")
        while not ending.done():
            waiting = spawn(self.agent.next_call(), name="next call")
            await asyncio.wait({ending, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
            elif waiting.exception() is None:
                await self._serve(waiting.result(), ending, echo)

    async def _serve(self, call: Call, ending: asyncio.Task[str], echo: bool) -> None:
        self.console.print(f"[bold]call from {escape(clean(call.remote_uri))}[/]")
        call.ring()
        try:
            call.accept()
            await call.session.opened()
        except (ChatError, NotAcceptable, TimeoutError) as error:
            self.console.print(f"[red]✘[/] {escape(clean(str(error)))}")
            await call.hangup()
            return
        self._opened("MSRP", call.session.link)
        while not call.ended.done() and not ending.done():
            arriving = spawn(call.session.received.get(), name="next message")
            await asyncio.wait((ending, arriving, call.ended), return_when=asyncio.FIRST_COMPLETED)
            if not arriving.done():
                arriving.cancel()
                continue
            message = arriving.result()
            self._show(message)
            if echo and message.text is not None:
                await call.session.send_text(message.text)
        await call.hangup()
        self.console.print("call ended")

    def _show(self, message: Incoming) -> None:
        if message.text is not None:
            self.console.print(f"[magenta]←[/] {escape(clean(message.text, 4000))}")
        else:
            kept = message.keep()
            name = escape(clean(message.name or message.content_type))
            self.console.print(
                f"[magenta]←[/] file {name}, {message.size:,} octets, sha-256 {message.sha256}, kept as {kept}"
            )
