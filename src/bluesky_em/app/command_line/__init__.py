"""The command line, `bluesky-em`: a function per command, in a file per kind of user."""

import typer

from ._instruments import serve
from ._runs import analyse, export, follow, plot
from ._sessions import demo, init, shell
from ._upkeep import doctor, give_up, retry, status, verify, writer

app = typer.Typer(
    help="Bluesky for analytical electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (
    demo, shell, init, serve, follow, plot, analyse, export,
    status, verify, doctor, retry, give_up, writer,
):  # fmt: skip
    app.command()(_command)

__all__ = ["app"]
