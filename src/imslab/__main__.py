"""The command ``imslab``: the laboratory around the daemons."""

import typer

from imslab.commands.core import core, deregister
from imslab.commands.ladder import ladder
from imslab.commands.ue import ue
from imslab.commands.up import up

app = typer.Typer(
    name="imslab",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="The laboratory of the IMS access edge: UE, small core, demonstration, and the ladder of a call.",
    epilog="Start with [bold]imslab up[/bold]: it starts everything, lets two UEs chat and shows what happened.",
)
app.command(
    epilog="Examples:  [bold]imslab up[/bold]  |  [bold]imslab up --once[/bold] (ends after the demonstration, "
    "status 0 if all was well)"
)(up)
app.command(
    epilog="Examples:  [bold]imslab ladder run/*.trace.jsonl[/bold]  |  "
    "[bold]imslab ladder run/*.trace.jsonl --format svg --output call.svg[/bold]"
)(ladder)
app.command(
    epilog="Examples:  [bold]imslab ue --user bob --password bob-secret --answer[/bold]  |  "
    "[bold]imslab ue --user alice --password alice-secret --call sip:bob@lab.example --text hi --file photo.jpg[/bold]"
)(ue)
app.command(epilog="Example:  [bold]imslab core --config configs/lab/core.toml[/bold]")(core)
app.command(epilog="Example:  [bold]imslab deregister alice --socket /tmp/core.sock[/bold]")(deregister)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
