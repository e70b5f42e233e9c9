"""The version of a catalog: one of an older Tiled is upgraded before it is served."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from ._catalog_copy import copy_catalog, put_back

logger = logging.getLogger(__name__)

_HAS_REVISION = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"


class UnusableCatalog(RuntimeError):
    """The installed Tiled cannot serve this catalog, however often it is started."""


def upgrade(catalog: Path, uri: str, tell: Callable[[str], None]) -> None:
    """Upgrade a catalog of an older Tiled, after a copy was made beside it.

    Args:
        catalog: path of `catalog.db`, which may not exist yet; no server has it open.
        uri: its address for Tiled.
        tell: called before the upgrade, which may take minutes, with what is being done.

    Raises:
        UnusableCatalog: the installed Tiled does not know its revision, or the upgrade failed;
            the catalog is as it was.
    """
    from tiled.catalog.core import ALL_REVISIONS, REQUIRED_REVISION

    found = _revision(catalog)
    if found in (None, REQUIRED_REVISION):
        return
    if found not in ALL_REVISIONS:
        raise UnusableCatalog(
            f"{catalog} has revision {found}, which the installed Tiled {version('tiled')} does "
            f"not know (its newest is {REQUIRED_REVISION}): a newer Tiled made that catalog. "
            "Install a newer tiled, as new as the one that was used before. Measuring and storing "
            "continue without it"
        )
    tell(f"it upgrades the catalog from revision {found} to {REQUIRED_REVISION} first")
    copy = copy_catalog(catalog, str(found))
    try:
        _migrate(uri)
    except Exception as exc:
        put_back(copy, catalog)
        raise UnusableCatalog(
            f"the installed Tiled {version('tiled')} cannot upgrade {catalog} from revision "
            f"{found} to {REQUIRED_REVISION} ({str(exc).splitlines()[0]}); the catalog is as it "
            "was. Install the tiled that was used before, or make the catalog again from journals "
            "and files. Measuring and storing continue without it"
        ) from exc
    logger.warning(
        "%s has been upgraded from revision %s to %s. As it was: %s",
        catalog, found, REQUIRED_REVISION, copy, extra={"action": "upgrade"},
    )  # fmt: skip


def _migrate(uri: str) -> None:
    """Do what `tiled catalog upgrade-database` does."""
    from tiled import alembic_utils
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.utils import ensure_specified_sql_driver

    address = ensure_specified_sql_driver(uri)
    template, folder = Path(ALEMBIC_INI_TEMPLATE_PATH), Path(ALEMBIC_DIR)
    alembic_utils.upgrade(template, folder, address, "head")


def _revision(catalog: Path) -> str | None:
    """Return the revision of a catalog; None if it has not been created yet."""
    if not catalog.exists():
        return None
    with closing(sqlite3.connect(catalog)) as database:
        if not database.execute(_HAS_REVISION).fetchall():
            return None
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return found and str(found[0])
