"""Hosts whose clock is wrong by decades, and is set while their programs run."""

import re
import signal
from pathlib import Path

import pytest

from tests.netns.tools import joined, reach
from vswitch.lab.lan import OWN, Code
from vswitch.lab.wait import wait_until

# What a program under test sees as the time: that of this machine, moved by what the file says.
SHIFTED = """
import os, time
from functools import partial

def shifted(true, unit):
    with open(os.environ["TEST_CLOCK"]) as file:
        return true() + type(true())(float(file.read()) * unit)

time.time_ns = partial(shifted, time.time_ns, 1_000_000_000)
time.time = partial(shifted, time.time, 1)
"""
YEAR = 365.25 * 86400  # seconds


@pytest.fixture
def clock(empty_lan, tmp_path):
    """Set the clock of the switch and of pc1, by so many seconds."""
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    for name in ("switch", "pc1"):
        paths = f"{OWN.environment['PYTHONPATH']}:{tmp_path}"
        variables = {"PYTHONPATH": paths, "TEST_CLOCK": str(tmp_path / name)}
        empty_lan.code[name] = Code(variables=variables)

    def set_clock(name, seconds):
        new = Path(tmp_path / f"{name}.new")
        new.write_text(str(seconds))
        new.replace(tmp_path / name)

    return set_clock


@pytest.mark.netns("ping")
def test_clocks_of_any_year_and_set_meanwhile(empty_lan, clock):
    lan = empty_lan
    clock("switch", -66.9 * YEAR)  # 1960
    clock("pc1", -66.9 * YEAR)
    lan.serve()
    lan.join("pc1")
    (port,) = lan.wait_connected("pc1")
    reach(lan.switch, "192.0.2.11")
    assert re.search(r"(?m)^(19[56]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO serving)", _log(lan))
    for command in (["events"], ["members"], ["status"]):
        assert lan.command(lan.switch, *command).stdout

    for year, seconds in ((2100, 73.1 * YEAR), (0, 0.0), (1970, -56.9 * YEAR)):
        clock("switch", seconds)
        status = lan.status()
        assert 0 <= status["uptime_s"] < 86400, year
        assert status["ports"][0]["since"] != port["since"], year
        assert re.search(r"up (\d+h)?(\d+m)?(\d+s)? ", lan.command(lan.switch, "status").stdout)
        clock("pc1", -seconds)
        line = lan.command(lan.members["pc1"], "status").stdout.splitlines()[-1]
        assert re.match(r"pc1 +up +\S{1,6} +vsw0", line), line
        lan.programs["pc1"].stop(signal.SIGKILL)
        lan.join("pc1")
        lan.wait_connected("pc1")
        wait_until(lambda: joined(lan, "pc1")["state"] == "up", "session")


def _log(lan):
    return lan.programs["switch"].log.read_text()
