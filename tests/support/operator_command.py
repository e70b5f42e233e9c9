"""Commands that an operator types about a session's storage folder."""

from typer.testing import CliRunner, Result

from bluesky_em.__main__ import app
from bluesky_em.app.session import Session


def operator_command(session: Session, *arguments: str) -> Result:
    """Run `bluesky-em` with these arguments on the session's storage folder."""
    return CliRunner().invoke(app, [*arguments, "--storage", str(session.storage.layout.root)])
