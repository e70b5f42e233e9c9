"""The version of a catalog: one of an older Tiled is upgraded before it is served."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from ._catalog_copy import copy_catalog, put_back, restore

logger = logging.getLogger(__name__)

_HAS_REVISION = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"


_COLUMNS = (
    "SELECT t.name, c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
    "WHERE t.type = 'table' AND t.name != 'alembic_version' AND t.name NOT LIKE 'sqlite_%'"
)


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
        _migrate(catalog, uri, copy)
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


def _migrate(catalog: Path, uri: str, copy: Path) -> None:
    """Do what `tiled catalog upgrade-database` does.

    SQLite keeps the steps of an upgrade that was killed, but not the new revision, and repeating
    them fails. So a catalog that has all the newest tables and columns only gets the revision.
    """
    from tiled import alembic_utils
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.utils import ensure_specified_sql_driver

    template, folder = Path(ALEMBIC_INI_TEMPLATE_PATH), Path(ALEMBIC_DIR)
    address = ensure_specified_sql_driver(uri)
    try:
        alembic_utils.upgrade(template, folder, address, "head")
    except Exception:
        if _tables(copy) != _newest_tables():
            raise
        restore(copy, catalog)
        alembic_utils.stamp_head(template, folder, address)


def _newest_tables() -> set[tuple[str, str]]:
    """Return the tables and columns of a new catalog."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.catalog.core import initialize_database

    async def create(path: Path) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path.as_posix()}")
        await initialize_database(engine)
        await engine.dispose()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.db"
        asyncio.run(create(path))
        return _tables(path)


def _tables(catalog: Path) -> set[tuple[str, str]]:
    """Return each table with each of its columns, but for the one that holds the revision."""
    with closing(sqlite3.connect(catalog)) as database:
        return set(database.execute(_COLUMNS).fetchall())


def _revision(catalog: Path) -> str | None:
    """Return the revision of a catalog; None if it has not been created yet."""
    if not catalog.exists():
        return None
    with closing(sqlite3.connect(catalog)) as database:
        if not database.execute(_HAS_REVISION).fetchall():
            return None
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return found and str(found[0])
