"""``imslab ladder``: draw calls from traces."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imslab.ladder.export import Format, Passage, choose, export
from imslab.ladder.group import build_ladders
from imslab.ladder.model import Ladder
from imslab.ladder.read import TraceError, read_traces
from imslab.ladder.text import MAXIMUM_WIDTH, MINIMUM_WIDTH, text_rows

_PLAIN_WIDTH = 120


def ladder(
    traces: Annotated[
        list[Path], typer.Argument(help="Trace files of imsalg and agw (JSON lines), in any order.", metavar="TRACE...")
    ],
    call: Annotated[str | None, typer.Option(help="Only the call with this Call-ID (its beginning is enough).")] = None,
    passage: Annotated[
        Passage | None, typer.Option(help="Only this passage of a call from UE to UE through the P-CSCF.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="How to draw.")] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Columns of the text form.", min=MINIMUM_WIDTH, max=MAXIMUM_WIDTH, show_default="the terminal's"
        ),
    ] = None,
    registrations: Annotated[bool, typer.Option("--registrations", help="Show registrations too.")] = False,
) -> None:
    """Draw the ladder of each call: SIP, H.248, TCP, TLS, fingerprints and bytes between UE, IMS-ALG, IMS-AGW and
    core.
    """
    try:
        ladders = choose(build_ladders(read_traces(traces)), call=call, passage=passage, registrations=registrations)
    except TraceError as error:
        typer.echo(f"imslab ladder: {error}", err=True)
        raise typer.Exit(2) from None
    if not ladders:
        which = f" with Call-ID {call}" if call else ""
        typer.echo(f"imslab ladder: no call{which} in these traces", err=True)
        raise typer.Exit(1)
    if output is not None:
        output.write_text(export(ladders, form, width or _PLAIN_WIDTH), "utf-8")
    elif form is Format.TEXT and sys.stdout.isatty():
        show(Console(), ladders, width)
    else:
        typer.echo(export(ladders, form, width or _PLAIN_WIDTH), nl=False)


def show(console: Console, ladders: list[Ladder], width: int | None = None) -> None:
    """Print ladders in colour on a terminal."""
    for index, one in enumerate(ladders):
        if index:
            console.print()
        for row in text_rows(one, width or console.width):
            console.print(row, crop=True, overflow="crop", no_wrap=True, highlight=False)
