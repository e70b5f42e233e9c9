"""The command line: `bluesky-em`, or `python -m bluesky_em`."""

from __future__ import annotations

import sys

from .app.command_line import app
from .errors import BlueskyEMError, extra_missing


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ModuleNotFoundError as exc:
        sys.exit(f"bluesky-em: {extra_missing(exc.name or str(exc))}")
    except (BlueskyEMError, RuntimeError, ValueError, OSError, LookupError) as exc:
        sys.exit(f"bluesky-em: {exc}")
    except KeyboardInterrupt:
        sys.exit("bluesky-em: interrupted")


if __name__ == "__main__":
    main()
