"""Logging of the programs: one line per event, `LEVEL event key=value`.

Library modules call `event` with their own logger; only a program calls `set_up`. A line has a
time stamp unless the journal adds one, its priority where the journal reads it, and colour only on
a terminal.

Invariants: one event is one line, whatever bytes a peer put into a value; a log file is mode
0600; logging never raises into the program. No caller logs a key, a token or a frame.

Error contract: `set_up` raises `ConfigError` for a log file that cannot be opened.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import pairwise
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import IO, TextIO

from vswitch.clocks import stamp
from vswitch.errors import ConfigError

# Of which network of the switch the running task is; None for what is of none, or of the only one.
NETWORK: ContextVar[str | None] = ContextVar("network", default=None)

TRACE = 5  # below DEBUG: a line for each frame
logging.addLevelName(TRACE, "TRACE")

_FILE_MODE = 0o600
_ROOTS = ("vswitch", "transport")  # our own loggers; other libraries keep to warnings
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_PRIORITIES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
    (logging.NOTSET, "<7>"),
)
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def event(
    logger: logging.Logger,
    name: str,
    /,
    level: int = logging.INFO,
    exc_info: BaseException | None = None,
    **fields: object,
) -> None:
    """Log that something happened: a name such as `port-up` and what belongs to it.

    A field that is None is left out; floats are written with three digits after the point. The
    traceback of `exc_info` follows on further lines. What a task of a network logs ends with that.
    """
    if logger.isEnabledFor(level):
        if (network := NETWORK.get()) is not None:
            fields.setdefault("network", network)
        words = [f"{key}={_value(value)}" for key, value in fields.items() if value is not None]
        logger.log(level, "%s", " ".join([name, *words]), exc_info=exc_info)


def clean(text: str, instead: str = "?") -> str:
    """The text with each character that is not printable replaced: it may come from a peer, and
    must not break a line or command a terminal.
    """
    return "".join(each if each.isprintable() else instead for each in text)


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text.isprintable() and text and not any(letter in ' "=' for letter in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class LineFormatter(logging.Formatter):
    """Formats a record as one line; a traceback follows on lines that are indented."""

    def __init__(self, *, stamp: bool, colour: bool, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal
        self._stamp = stamp
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end. Control characters in it are escaped."""
        line = f"{record.levelname} {_one_line(record.getMessage())}"
        if self._colour and (
            colour := _COLOURS.get(record.levelname, _DIM * (record.levelno < 20))
        ):
            line = f"{colour}{line}{_PLAIN}"
        if self._stamp:
            line = f"{stamp(record.created)} {line}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {_one_line(part)}" for part in trace.splitlines())
        return with_priority(line, record.levelno) if self._journal else line


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal of systemd reads this stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file, or closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def with_priority(text: str, level: int) -> str:
    """Lines for the journal, each with the priority of this level of logging (sd-daemon(3))."""
    mark = next(mark for least, mark in _PRIORITIES if level >= least)
    return "\n".join(mark + line for line in text.split("\n"))


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _DailyFile(TimedRotatingFileHandler):
    """A log file that is put aside every midnight, and when it has grown to `size` bytes; all of
    them are readable by the owner only.

    What has grown too large gets a number, FILE.1 being the latest of today: `MOST_OF_A_DAY` are
    kept, and at midnight they go under.
    """

    MOST_OF_A_DAY = 3

    def __init__(self, path: Path, days: int, size: int) -> None:
        super().__init__(path, when="midnight", backupCount=days, encoding="utf-8", delay=False)
        self._size = size
        self._complained = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; before that, put the file aside if it has become too large."""
        if self._size and self.stream is not None:
            try:
                if self.stream.tell() >= self._size:
                    self._put_aside()
            except (OSError, ValueError):
                self.handleError(record)
        super().emit(record)

    def _put_aside(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None  # the next line opens it
        names = [f"{self.baseFilename}.{number}" for number in range(1, self.MOST_OF_A_DAY + 1)]
        for newer, older in reversed(list(pairwise([self.baseFilename, *names]))):
            if os.path.exists(newer):
                os.replace(newer, older)

    def _open(self) -> IO[str]:  # type: ignore[override]
        def opener(name: str, flags: int) -> int:
            fd = os.open(name, flags | os.O_CLOEXEC, _FILE_MODE)
            os.fchmod(fd, _FILE_MODE)
            return fd

        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=opener)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once on stderr that the file cannot be written; a full disk must not flood it."""
        if not self._complained:
            self._complained = True
            print(
                f"vswitch: cannot write {self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr
            )


def set_level(level: str) -> None:
    """From now on, the lowest level of events that are logged."""
    for name in _ROOTS:
        logging.getLogger(name).setLevel(level.upper())


def set_up(
    level: str,
    log_file: Path | None = None,
    log_days: int = 14,
    log_size: int = 0,
    log_only_file: bool = False,
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send the events of this program to `stream` (stderr) and, if given, to a file as well.

    Args:
        level: lowest level that is logged: trace, debug, info, warning or error.
        log_file: put aside at midnight; `log_days` old ones are kept, 0 keeps all.
        log_size: bytes at which it is put aside, too; 0 for no limit.
        log_only_file: leave `stream` to what cannot be written there.

    Raises:
        ConfigError: the file cannot be opened, or there is none.
    """
    out = sys.stderr if stream is None else stream
    console = logging.StreamHandler(out)
    console.setFormatter(
        LineFormatter(
            stamp="JOURNAL_STREAM" not in environ,
            colour=out.isatty() and not environ.get("NO_COLOR"),
            journal=is_journal(out, environ),
        )
    )
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        # A device would be given our mode and be renamed at midnight; a FIFO would block.
        if log_file.exists() and not log_file.is_file():
            raise ConfigError(f"log file {log_file}: it is no regular file: see --log-file")
        try:
            file = _DailyFile(log_file, log_days, log_size)
        except OSError as error:
            raise ConfigError(f"log file {log_file}: {error.strerror}: see --log-file") from None
        file.setFormatter(LineFormatter(stamp=True, colour=False))
        handlers = [file] if log_only_file else [console, file]
    elif log_only_file:
        raise ConfigError("--log-only-file needs --log-file FILE")
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, LineFormatter):
            root.removeHandler(old)
            old.close()
    root.setLevel(logging.WARNING)
    for handler in handlers:
        root.addHandler(handler)
    set_level(level)
