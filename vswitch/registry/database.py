"""The SQLite file below the registry: made 0600, opened checked, written in transactions.

Invariants: WAL, so a reader never waits for a writer; every commit is on the disk before it is
reported (synchronous=FULL), because a spent invite must stay spent through a power cut. Several
processes (serve, invite, revoke) and several threads of each may use the file at once: one
connection reads, one writes, each behind its own lock, and SQLite arbitrates between processes.

Where nothing can be written, on a full disk or a read-only one, the file is read as it is and each
transaction fails; every later use looks first whether that has changed.

Error contract: `VswitchError` with the path and what to do; a transaction that raises has
changed nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from vswitch.errors import ConfigError, NotFound, VswitchError
from vswitch.state import check_owned, directory_lock, file_error

Execute = Callable[[str, Sequence[Any]], sqlite3.Cursor]

_BUSY_TIMEOUT = 5000  # ms to wait for another process; a commit takes a few ms
_FILE_MODE = 0o600
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN")
_NO_SPACE = (
    "the disk is full or read-only; nothing was changed: free some space, or mount it for writing, "
    "and try again"
)


class NoSpace(VswitchError):
    """The file cannot be written, for want of space or because its disk is read-only."""


class Database:
    """One open file; see `open`. `close` it, or use it in a `with` block."""

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self.path = path
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._schema = schema
        self._opened = 0  # times
        self._writer: sqlite3.Connection | None = None  # None: nothing can be written
        try:
            self._open_whole()
        except NoSpace:
            with self.plain_errors():
                self._reader = self._connect_as_it_is()

    def _open_whole(self) -> None:
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:  # SQLite would find out when it writes
            raise NoSpace(f"{self.path}: {_NO_SPACE}")
        with contextlib.ExitStack() as undo, self.plain_errors():
            writer = undo.enter_context(contextlib.closing(self._connect()))
            reader = undo.enter_context(contextlib.closing(self._connect()))
            self._prepare(writer)
            undo.pop_all()
        self._writer, self._reader, self._opened = writer, reader, self._opened + 1

    @property
    def writable(self) -> bool:
        """Whether it could be opened for writing."""
        return self._writer is not None

    def _try_again(self) -> None:
        """Where nothing could be written, look whether it can be now. Locks are held."""
        if self._writer is None:
            before = self._reader
            with contextlib.suppress(NoSpace):
                self._open_whole()
                before.close()

    @classmethod
    def open(cls, path: Path, schema: Sequence[str], *, create: bool) -> Self:
        """Open the file, and make it first where `create` allows.

        Args:
            path: of the file; its directory exists.
            schema: the statements that lead from an empty file to version 1, from there to
                version 2, and so on; the version is kept in SQLite's user_version.
            create: whether a missing file is made.

        Raises:
            NotFound: there is no such file.
            ConfigError: others own it or can read it, or a newer version of this program made it.
            VswitchError: it cannot be opened or is no database.
        """
        # Two programs that start at once must not both see an empty file.
        with directory_lock(path.parent):
            _check_file(path, create)
            return cls(path, schema)

    def close(self) -> None:
        """Close both connections. Calling it again does nothing."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SELECT, as of the last commit of any process."""
        with self._read_lock, self.plain_errors():
            return self._reader.execute(statement, values).fetchall()

    def version(self) -> int:
        """A number that is another one after any commit, of this process or another."""
        if self._writer is None:
            with self._write_lock, self._read_lock:
                self._try_again()
        number: int = self.read("PRAGMA data_version")[0][0]
        return (self._opened << 32) + number  # which SQLite counts for each connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Run statements that take effect together, at the end of the block, or not at all."""
        with self._write_lock, self.plain_errors():
            if self._writer is None:
                with self._read_lock:
                    self._try_again()
            if (writer := self._writer) is None:
                raise NoSpace(f"{self.path}: {_NO_SPACE}")
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer.execute
                writer.execute("COMMIT")
            except BaseException:
                # After some errors, a full disk among them, SQLite has rolled back already.
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri_to_write(self.path),
            uri=True,
            timeout=_BUSY_TIMEOUT / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # Changing to WAL takes an exclusive lock, so it is done only where it is not so.
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_as_it_is(self) -> sqlite3.Connection:
        """To read alone."""
        connection = sqlite3.connect(
            uri_as_it_is(self.path), uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != len(self._schema):  # nothing is there yet, or all has to be made anew
                raise NoSpace(f"{self.path}: {_NO_SPACE}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, writer: sqlite3.Connection) -> None:
        schema = self._schema
        version: int = writer.execute("PRAGMA user_version").fetchone()[0]
        if version > len(schema):
            raise ConfigError(
                f"{self.path} was made by a newer vswitch (format {version}, this one knows "
                f"{len(schema)}): use that version, or another --state"
            )
        if version < len(schema):
            writer.execute("BEGIN IMMEDIATE")
            for script in schema[version:]:
                for statement in filter(str.strip, script.split(";")):
                    writer.execute(statement)
            writer.execute(f"PRAGMA user_version={len(schema)}")
            writer.execute("COMMIT")  # else closing the connection undoes it

    @contextlib.contextmanager
    def plain_errors(self) -> Iterator[None]:
        """For whatever reads or understands what is in the file: it may be garbled anywhere, and
        then neither SQLite nor a converter says so in one way.
        """
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in _FULL or _full(error, self.path):
                raise NoSpace(f"{self.path}: {_NO_SPACE}") from error
            raise VswitchError(f"{self.path}: {_explain(error)}") from error
        except (ValueError, TypeError, OverflowError, LookupError) as error:
            raise VswitchError(f"{self.path}: {_damaged(error)}") from error


def _full(error: sqlite3.Error, path: Path) -> bool:
    """Whether a file beside the database could not be made because there is no room for it."""
    if getattr(error, "sqlite_errorname", "") != "SQLITE_CANTOPEN":
        return False
    disk = os.statvfs(path.parent)
    return not disk.f_bavail or not disk.f_favail


def _explain(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"another program kept it locked for {_BUSY_TIMEOUT // 1000} s: try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"cannot be opened for writing ({error}): run as the user who owns it"
    if name.startswith("SQLITE_IOERR") or isinstance(error, sqlite3.ProgrammingError):
        return str(error)
    # Our own statements are right: what else is wrong is in the file, whatever it is called.
    return _damaged(error)


def _damaged(error: Exception) -> str:
    return f"is damaged or no registry ({error}): restore it from a backup"


def _check_file(path: Path, create: bool) -> None:
    """Make sure that the file exists, is ours, and that nobody else can read it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            fd = os.open(path, flags | os.O_RDWR | (os.O_CREAT if create else 0), _FILE_MODE)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = os.open(path, flags | os.O_RDONLY)
    except FileNotFoundError:
        raise NotFound(
            f"there is no registry {path}: has a switch run with this --state?"
        ) from None
    except OSError as error:
        raise file_error("registry", path, error) from None
    try:
        status, directory = os.fstat(fd), path.parent.stat()
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"registry {path} is not a regular file")
    if status.st_mode & 0o077:
        raise ConfigError(
            f"registry {path} is open to other users (mode {status.st_mode & 0o777:04o}): "
            f"chmod 600 {path}"
        )
    # Root looks into the registry of the service's user, whose directory it is then, too. It does
    # not begin to serve from it.
    check_owned("registry", path, status, *(() if create else (directory.st_uid,)))


def uri_as_it_is(path: Path) -> str:
    """To read the file where nothing can be written. Without its two files beside it, which are
    gone after an orderly end, a database with a write-ahead log can be read by who promises that
    nobody writes.
    """
    log = path.with_name(f"{path.name}-wal")
    alone = not log.exists() or not log.stat().st_size
    return f"file:{_quoted(path)}?mode=ro{'&immutable=1' * alone}"


def uri_to_write(path: Path) -> str:
    """To read and write the file, which is there."""
    return f"file:{_quoted(path)}?mode=rw"


def _quoted(path: Path) -> str:
    """The path for a SQLite URI, where '?', '#' and '%' have a meaning."""
    text = str(path.absolute())
    return text.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
