"""One event is one line, in the form that people and scripts rely on."""

from __future__ import annotations

import errno
import io
import logging
import os

import pytest

from vswitch.errors import ConfigError
from vswitch.logs import LineFormatter, clean, event, set_up

LOG = logging.getLogger("vswitch.test")


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    before = root.level
    yield
    for handler in list(root.handlers):
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(before)
    for name in ("vswitch", "transport"):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def logged(level="info", stream=None, environ=None, **more):
    stream = stream or io.StringIO()
    set_up(level, stream=stream, environ={"JOURNAL_STREAM": "1"} | (environ or {}), **more)
    return stream


def test_an_event_is_level_name_and_fields():
    out = logged()
    event(LOG, "port-up", port=3, member="pc1", rtt=0.01834, address=None, via="udp:[::1]:5")
    assert out.getvalue() == "INFO port-up port=3 member=pc1 rtt=0.018 via=udp:[::1]:5\n"


def test_lines_for_the_journal_have_its_priorities(tmp_path):
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        logged("debug", stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            event(LOG, "x", level)
        event(LOG, "x", logging.ERROR, ValueError("y"))
        stream.seek(0)
        assert stream.read().splitlines() == [
            "<7>DEBUG x",
            "<6>INFO x",
            "<4>WARNING x",
            "<3>ERROR x",
            "<3>  ValueError: y",
        ]


def test_a_stream_beside_the_journal_has_none(tmp_path):
    with (tmp_path / "file").open("w+") as stream:
        logged("info", stream)  # the variable is of another stream, whose child this is
        event(LOG, "x")
        stream.seek(0)
        assert stream.read() == "INFO x\n"


def test_values_from_outside_cannot_break_the_line():
    out = logged()
    event(LOG, "x", text='a b="c"\\', empty="", line="a\nERROR fake", escape="\x1b[31m")
    assert out.getvalue() == (
        'INFO x text="a b=\\"c\\"\\\\" empty="" line="a\\nERROR fake" escape="\\x1b[31m"\n'
    )


def test_plain_messages_are_one_line_too():
    out = logged()
    LOG.warning("a %s", "b\r\nc")
    assert out.getvalue() == "WARNING a b\\r\\nc\n"


def test_the_level_is_for_our_own_loggers_only():
    out = logged("debug")
    event(LOG, "fine", logging.DEBUG)
    logging.getLogger("transport.x").debug("also")
    logging.getLogger("elsewhere").info("not this")
    assert out.getvalue() == "DEBUG fine\nDEBUG also\n"
    out = logged("error")
    event(LOG, "quiet", logging.WARNING)
    assert out.getvalue() == ""


def test_time_stamps_unless_the_journal_adds_them():
    out = io.StringIO()
    set_up("info", stream=out, environ={})
    event(LOG, "x")
    assert out.getvalue()[4] == "-"
    assert out.getvalue().endswith("Z INFO x\n")
    assert len(out.getvalue()) == len("2026-01-02T03:04:05.678Z INFO x\n")


def test_colour_only_on_a_terminal_and_without_no_color():
    out = logged(stream=Terminal())
    LOG.error("bad")
    assert out.getvalue() == "\x1b[31mERROR bad\x1b[0m\n"
    out = logged(stream=Terminal(), environ={"NO_COLOR": "1"})
    LOG.error("bad")
    assert out.getvalue() == "ERROR bad\n"


def test_a_traceback_is_indented_below_its_line():
    out = logged()
    try:
        raise ValueError("why\nnot")
    except ValueError:
        LOG.exception("failed")
    lines = out.getvalue().splitlines()
    assert lines[0] == "ERROR failed"
    assert all(line.startswith("  ") for line in lines[1:])
    assert any("ValueError: why" in line for line in lines)


def test_the_file_gets_the_same_lines_is_private_and_is_put_aside(tmp_path):
    path = tmp_path / "v.log"
    logged(stream=Terminal(), log_file=path, log_days=1)
    event(LOG, "one")
    handler = next(h for h in logging.getLogger().handlers if hasattr(h, "doRollover"))
    assert handler.backupCount == 1
    handler.doRollover()
    event(LOG, "two")
    old = [file for file in tmp_path.iterdir() if file != path]
    assert len(old) == 1
    assert old[0].read_text().endswith("Z INFO one\n")
    assert path.read_text().endswith("Z INFO two\n")
    assert "\x1b" not in path.read_text()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_file_that_has_grown_is_put_aside_and_few_of_a_day_are_kept(tmp_path):
    path = tmp_path / "v.log"
    logged(log_file=path, log_size=1000)
    for number in range(100):
        event(LOG, "x" * 90, number=number)
    files = [path, *(path.with_name(f"v.log.{number}") for number in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == files
    assert all(file.stat().st_size < 1200 for file in files)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    lines = "".join(file.read_text() for file in reversed(files)).splitlines()
    assert [int(line.rpartition("=")[2]) for line in lines] == list(range(100 - len(lines), 100))


def test_the_file_alone(tmp_path):
    path = tmp_path / "v.log"
    out = logged(log_file=path, log_only_file=True)
    event(LOG, "one")
    assert (out.getvalue(), path.read_text()[-9:]) == ("", "INFO one\n")
    with pytest.raises(ConfigError, match="--log-only-file needs --log-file"):
        logged(log_only_file=True)


def test_a_log_file_that_cannot_be_opened_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"log file .*gone/v\.log: No such file"):
        logged(log_file=tmp_path / "gone" / "v.log")


def test_a_log_file_that_is_a_device_or_a_directory_is_refused_and_left_alone(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o644)
    mode = fifo.stat().st_mode
    for path in (fifo, tmp_path):
        with pytest.raises(ConfigError, match="no regular file"):
            logged(log_file=path)
    assert fifo.stat().st_mode == mode


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_once_and_stops_nothing(tmp_path, capsys):
    out = logged(log_file=tmp_path / "v.log")
    handler = next(h for h in logging.getLogger().handlers if hasattr(h, "doRollover"))
    handler.setStream(FullDisk()).close()
    event(LOG, "one")
    event(LOG, "two")
    assert out.getvalue() == "INFO one\nINFO two\n"
    assert capsys.readouterr().err.count("No space left") == 1


def test_what_is_not_printable_is_replaced():
    assert clean("a\nb\x1b[31mé\u202e") == "a?b?[31mé?"
    assert clean("a\r\nb", " ") == "a  b"
