"""The command line: `bluesky-em`, or `python -m bluesky_em`."""

from __future__ import annotations

import sys

from .app.command_line import app
from .errors import BlueskyEMError


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (BlueskyEMError, RuntimeError, ValueError, OSError, LookupError) as exc:
        sys.exit(f"bluesky-em: {exc}")
    except KeyboardInterrupt:
        sys.exit("bluesky-em: interrupted")


if __name__ == "__main__":
    main()
