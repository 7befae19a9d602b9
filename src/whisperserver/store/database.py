"""SQLite, opened once per process: `reading`, `writing` and `written` are the only doors to it.

Rules, each with its reason:
* One connection in a process. Two of them deadlock under load: the garbage collector of one waits for the
  other's commit. So never open a transaction inside another; it would wait for itself.
* WAL, so that the server reads while the worker writes.
* synchronous=FULL. In WAL mode NORMAL may lose the newest commits at a power cut, and two promises hang on
  them: a 2xx means kept, and a ticket's SENDING is on the disk before the request leaves. The price is one
  fsync a commit, a handful for each call.
* A writing transaction takes the lock at its beginning (BEGIN IMMEDIATE): a transaction that reads first and
  writes later is refused by SQLite when another process wrote in between, whatever the busy timeout.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from advanced_alchemy.config import AsyncSessionConfig, EngineConfig, SQLAlchemyAsyncConfig
from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncSession

from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperagent.settings import Paths, Settings

BUSY_MS = 15_000
"""How long a writer waits for another process's commit."""
AGAIN_S = 1.0
"""Between two tries of what must be written."""
PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR")

T = TypeVar("T")

log = logging.getLogger(__name__)


def location(settings: Settings, paths: Paths) -> Path:
    """Where the database lies. raises ConfigError: `serve.database` asks for another kind of database."""
    given = settings.serve.database
    if "://" in given:
        raise ConfigError(
            _("`serve.database` is not a file"),
            why=_("this version keeps its calls in SQLite only"),
            fix=_("give the path of a file, or leave it empty"),
        )
    return Path(given).expanduser().absolute() if given else paths.server / "calls.db"


class Database:
    """path: the file; `migrate` must have made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = SQLAlchemyAsyncConfig(
            connection_string=URL.create("sqlite+aiosqlite", database=str(path)).render_as_string(),
            # The values of a statement may be words of a call: they stay out of errors, so out of the log.
            engine_config=EngineConfig(pool_size=1, max_overflow=0, pool_timeout=60, hide_parameters=True),
            session_config=AsyncSessionConfig(expire_on_commit=False),
        )
        self._engine = self.config.get_engine()
        event.listen(self._engine.sync_engine, "connect", _set_up)
        self._session = self.config.create_session_maker()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that sees one moment of the database."""
        async with self._session() as session:
            await session.execute(text("BEGIN"))
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is durable when the block ends, and undone when it raises."""
        async with self._session() as session, session.begin():
            await session.execute(text("BEGIN IMMEDIATE"))
            yield session

    async def written(self, step: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """A `writing` transaction of this one step, tried until the database has time and room for it.

        For what a job has found out: thrown away, it would have to be found out again, or never can be.
        """
        while True:
            try:
                async with self.writing() as session:
                    return await step(session)
            except Exception as problem:
                if not is_passing(problem):
                    raise
                log.error("the database does not take this now: %s", getattr(problem, "orig", problem))
            await asyncio.sleep(AGAIN_S)

    async def forget(self) -> None:
        """Leave nothing of what was deleted in the log that SQLite writes ahead."""
        async with self._engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        await self._engine.dispose()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    """The database, for the time of the block."""
    database = Database(path)
    try:
        yield database
    finally:
        await database.close()


def is_passing(problem: Exception) -> bool:
    """Is it a database that is locked, or has no room: no fault, and over some time?"""
    name = str(getattr(getattr(problem, "orig", None), "sqlite_errorname", ""))
    return isinstance(problem, NoConnection) or name.startswith(PASSING)


def migrate(path: Path) -> None:
    """Make the database, or bring it to this version's tables. Blocks; call it before anything is open.

    raises ConfigError: the file cannot be used.
    """
    from alembic import command
    from alembic.config import Config

    scripts = Config()
    scripts.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            scripts.attributes["connection"] = connection
            command.upgrade(scripts, "head")
        path.chmod(0o600)
    except Exception as problem:
        raise ConfigError(
            _("cannot use the database {path}").format(path=path),
            why=str(getattr(problem, "orig", problem)),
            fix=_(
                "see that it is a file of this program, of no newer version, and that its folder "
                "can be written"
            ),
        ) from problem
    finally:
        engine.dispose()


def _begin(connection: Connection) -> None:
    # Python's driver begins no transaction before CREATE TABLE: killed here, a server had half of its tables.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten, not only unlinked
    cursor.close()
