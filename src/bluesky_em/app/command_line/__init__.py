"""The command line, `bluesky-em`: a function per command, in a file per kind of user."""

from typing import Annotated

import typer

from ._instruments import serve
from ._runs import analyse, export, follow, plot
from ._sessions import demo, init, shell
from ._upkeep import backup, doctor, give_up, retry, status, verify, writer

app = typer.Typer(
    help="Bluesky for analytical electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (
    demo, shell, init, serve, follow, plot, analyse, export,
    status, verify, doctor, backup, retry, give_up, writer,
):  # fmt: skip
    app.command()(_command)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"bluesky-em {version('bluesky-em')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


__all__ = ["app"]
