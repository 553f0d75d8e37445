"""What `top` and `status --watch` make of counters, and how they end; `ports` of one port."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from functools import partial

import pytest
from rich.console import Console

from vswitch.cli import live
from vswitch.cli.ports import _facts
from vswitch.management.status import PortStatus


def port(number, **more):
    return PortStatus(**{"port": number, "name": f"pc{number}", "state": "up", **more})


def test_a_rate_is_what_has_grown_a_second():
    before = live.Sample.of(port(1, rx_bytes=1000, drops={"queue_full": 5, "no_destination": 1}))
    now = port(1, rx_bytes=2000, tx_bytes=500, drops={"queue_full": 9, "no_destination": 99})
    rate = live.Rate.since(now, before, 2.0)
    assert (rate.rx, rate.tx, rate.dropped, rate.reason) == (4000, 2000, 2, "queue_full")


@pytest.mark.parametrize("before", [None, live.Sample(9, 9, {"queue_full": 9})])
def test_a_port_that_is_new_or_counts_anew_has_none(before):
    rate = live.Rate.since(port(1, rx_bytes=5, drops={"queue_full": 3}), before, 1.0)
    assert (rate.rx, rate.tx, rate.dropped, rate.reason) == (0, 0, 0, "")


def shown(rates, room, width=80):
    console = Console(width=width, file=None, record=True, force_terminal=False)
    with console.capture() as out:
        console.print(live.rates_table(rates, room))
    return out.get().splitlines()


def test_the_busiest_come_first_and_as_many_as_there_is_room_for():
    rates = [
        live.Rate(port(number, rtt_ms=2.5), 1e6 * number, 0.0, 3.0, "queue_full")
        for number in range(1, 30)
    ]
    lines = shown(rates, 20)
    assert len(lines) == 21
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split()[:4] == ["pc29", "██████████", "29Mbit/s", "0bit/s"]
    assert lines[1].split()[4:] == ["2.5ms", "-", "3", "queue_full"]


def test_a_name_is_no_markup():
    evil = port(1, name="[red]x\x1b[2J")
    (line,) = shown([live.Rate(evil, 0.0, 0.0, 0.0, "")], 1)[1:]
    assert line.startswith("[red]x")
    assert "\x1b" not in line


def test_a_port_is_told_with_what_there_is_to_say():
    told = dict(_facts(port(3, address="10.77.0.3/24", rtt_ms=1.0, drops={"queue_full": 2})))
    assert told["address"] == "10.77.0.3/24"
    assert told["round trip"] == "1.00 ms"
    assert told["drops queue_full"] == "2"
    assert "via" not in told


@pytest.mark.parametrize("command", [["top"], ["status", "--watch"]])
def test_q_ends_it_and_leaves_the_terminal_as_it_was(tmp_path, command):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-m", "vswitch", *command, "--state", str(tmp_path)],
        stdin=theirs,
        stdout=theirs,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
    )
    shown = b""
    while b"\x1b[?1049h" not in shown:  # the whole screen is its own
        shown += os.read(ours, 4096)
    os.write(ours, b"jQ")
    while process.poll() is None:
        if select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 4096)
    assert process.returncode == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("command", [["top"], ["status", "--watch"]])
def test_into_a_pipe_one_after_the_other_until_ctrl_c(tmp_path, command):
    process = subprocess.Popen(
        [sys.executable, "-m", "vswitch", *command, "--state", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(lines)
    assert "\x1b" not in "".join(lines)
