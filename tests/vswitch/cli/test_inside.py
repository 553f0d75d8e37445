"""capture, counters, events, impair and trace against a switch that runs, as people type them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import trio

from tests.vswitch.control import switch_api
from vswitch.api.socket import serve_control
from vswitch.cli import main
from vswitch.errors import ExitCode
from vswitch.features.manager import FeatureManager
from vswitch.management.handlers.common import Controlled
from vswitch.management.status import PortStatus, SwitchStatus
from vswitch.serving.status import totals_of
from vswitch.state import StateDir
from vswitch.switch.switch import open_switch
from vswitch.testing import arp_request

ARP = arp_request("02:00:00:00:00:0a", "10.0.0.1", "10.0.0.2")


@pytest.fixture
def run(tmp_path, capfdbinary, monkeypatch):
    """Run a command beside a switch with two ports, where pc1 says something all the time."""
    for name in list(os.environ):
        if name.startswith("VSWITCH_"):
            monkeypatch.delenv(name)
    files = StateDir(tmp_path / "s")
    files.ensure()
    started, stopped = threading.Event(), trio.CancelScope()
    token = []

    async def serve():
        async with open_switch() as switch, trio.open_nursery() as nursery:
            managed = FeatureManager(switch)
            nursery.start_soon(managed.run)

            async def status():
                ports = [
                    PortStatus(port=port.number, name=port.name, state="up", rx_frames=7)
                    for port in switch.ports
                ]
                totals = totals_of(switch.statistics())
                said = {"version": "1", "uptime_s": 1.0, "listen": "", "subnet": "", "mtu": 1500}
                return SwitchStatus(**said, members=2, ports=ports, totals=totals)

            handlers = switch_api(Controlled(managed, status, None, None))
            await nursery.start(serve_control, files.control_socket, handlers)
            async with switch.open_port("pc1") as pc1, switch.open_port("pc2"):
                token.append(trio.lowlevel.current_trio_token())
                started.set()
                with stopped:
                    while True:
                        await pc1.send(ARP)
                        await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(10)

    def run(command, *args):
        code = main([command, "--state", str(files.path), *args])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    run.state = str(files.path)
    run.stop = lambda: token[0].run_sync_soon(stopped.cancel)
    yield run
    with contextlib.suppress(trio.RunFinishedError):
        run.stop()
    thread.join()


def test_capture_as_text(run):
    code, out, err = run("capture", "pc1", "--count", "3", "--direction", "in")
    assert (code, err) == (0, "vswitch: 3 frames captured\n")
    lines = out.decode().splitlines()
    assert len(lines) == 3
    assert all(" in  pc1 02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp" in line for line in lines)


def test_capture_with_the_flags_of_tcpdump(run):
    for where in ("pc1", "any"):
        code, out, _ = run("capture", "-n", "-i", where, "-Q", "in", "-c", "2", "--filter", "!ip")
        assert code == 0
        assert out.count(b" in  pc1 02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp") == 2


def test_capture_into_a_file_for_a_time(run, tmp_path):
    path = tmp_path / "lan.pcapng"
    code, out, err = run("capture", "--all", "-w", str(path), "--for", "1s", "--filter", "arp")
    assert (code, out) == (0, b"")
    assert 20 < int(err.split()[1]) < 250
    data = path.read_bytes()
    assert data.startswith(b"\x0a\x0d\x0d\x0a")
    assert data.count(ARP) == int(err.split()[1])


@pytest.mark.parametrize(
    ("args", "code", "complaint"),
    [
        ([], 2, "name the ports"),
        (["pc1", "--all"], 2, "name the ports"),
        (["pc9"], 5, "no port pc9"),
        (["pc1", "--filter", "frobnicate"], 2, "is no term"),
        (["pc1", "--for", "ever"], 2, "--for ever"),
        (["pc1", "--snaplen", "1"], 2, "--snaplen"),
        (["pc1", "-w", "/nowhere/at/all"], 1, "cannot be written"),
    ],
)
def test_capture_refused(run, args, code, complaint):
    got, _, err = run("capture", *args)
    assert got == code
    assert complaint in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is missing")
def test_capture_into_a_full_disk_is_one_line(run):
    code, out, err = run("capture", "--all", "-w", "/dev/full", "--count", "1")
    assert (code, out) == (1, b"")
    assert err == "vswitch: error: cannot write the capture: No space left on device\n"


def test_a_switch_that_stops_ends_the_capture_and_says_so(run, tmp_path):
    timer = threading.Timer(0.5, run.stop)
    timer.start()
    code, out, err = run("capture", "pc1")
    assert code == ExitCode.NOT_REACHABLE
    assert out.count(b"arp") > 5
    assert "the switch has stopped" in err


def test_trace_and_its_exit_code(run):
    code, out, _ = run("trace", "in=pc1", "dst=broadcast")
    assert code == ExitCode.OK
    assert out.decode().splitlines()[-1] == "out on pc2 (port 2)"
    code, out, _ = run("trace", "in=pc1 dst=01:80:c2:00:00:00", "--json")
    assert code == ExitCode.FAILED
    assert json.loads(out)["reason"] == "reserved_destination"
    assert run("trace", "in=pc1")[0] == ExitCode.USAGE


def follow(run, **options):
    """`events -f` as a process of its own, after its first two lines."""
    argv = [sys.executable, "-m", "vswitch", "events", "-f", "--state", run.state]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    assert [process.stdout.readline().split()[2:] for _ in range(2)] == [
        [b"port-up", b"port=pc1", b"port_number=1"],
        [b"port-up", b"port=pc2", b"port_number=2"],
    ]
    return process


def test_whoever_follows_events_ends_with_ctrl_c_or_with_its_reader(run):
    with follow(run) as stopped, follow(run) as left:
        stopped.send_signal(signal.SIGINT)
        assert (stopped.wait(), stopped.stderr.read()) == (ExitCode.INTERRUPTED, b"")
        left.stdout.close()  # as `head` does; nothing more is written
        assert (left.wait(), left.stderr.read()) == (ExitCode.OK, b"")


def test_events_that_are_followed_end_with_the_switch(run):
    with follow(run) as process:
        run.stop()
        assert process.wait() == ExitCode.NOT_REACHABLE
        assert b"the switch has stopped" in process.stderr.read()


def test_a_port_that_is_not_there_has_no_mac_table(run):
    assert run("mac", "--port", "nosuch")[0] == ExitCode.NOT_FOUND
    assert run("mac", "--port", "pc1")[0] == ExitCode.OK


def test_impair_shows_one_port_and_ends_everywhere(run):
    assert run("impair", "pc1")[1] == b"pc1 is not impaired\n"
    run("impair", "pc1", "--delay", "1ms")
    run("impair", "pc2", "--delay", "2ms")
    assert [line.split()[0] for line in run("impair", "2")[1].splitlines()] == [b"PORT", b"pc2"]
    assert len(run("impair")[1].splitlines()) == 3
    assert run("impair", "pc9")[0] == ExitCode.NOT_FOUND
    assert run("impair", "off")[1] == b"no port is impaired\n"


def test_impair_events_and_counters(run):
    code, out, _ = run("impair", "pc1", "--delay", "1ms~1ms", "--loss", "50%", "--for", "1h")
    assert code == 0
    assert "delay 1ms~1ms, loss 50%, seed 1, direction both  3600s" in out.decode()
    assert run("impair", "pc1", "off")[1] == b"no port is impaired\n"
    code, out, _ = run("events", "--json")
    kinds = [event["kind"] for event in json.loads(out)["events"]]
    assert kinds == ["port-up", "port-up", "impaired", "unimpaired"]
    assert b"#3 2" in run("events")[1]
    assert run("impair", "pc1", "--loss", "2")[0] == ExitCode.USAGE
    assert run("impair", "--loss", "2%")[0] == ExitCode.USAGE
    code, out, _ = run("counters", "pc1")
    assert out.decode().splitlines() == ["PORT  COUNTER    COUNT", "pc1   rx_frames  7"]
    said = json.loads(run("counters", "--json")[1])
    assert said["totals"]["rx_frames"] > 0
    assert [port["name"] for port in said["ports"]] == ["pc1", "pc2"]
    assert run("counters", "pc9")[0] == ExitCode.NOT_FOUND
    assert run("counters", "--watch", "--json")[0] == ExitCode.USAGE


RULES = """
[rules]
list = ["deny pc2 -> pc1 tcp 22"]
tests = ["pc2 -> pc1 tcp 22 denied"]
"""


def test_rules_are_checked_loaded_and_shown(run, tmp_path):
    file = tmp_path / "serve.toml"
    assert run("rules")[1] == b"else allow; 0 tests hold; 0 flows now\n"
    file.write_text(RULES)
    code, out, _ = run("rules", "check", str(file))
    assert (code, out.decode()) == (0, f"{file}: 1 rules are right, 1 tests hold\n")
    said = json.loads(run("rules", "check", str(file), "--json")[1])
    assert said == {"schema": 1, "file": str(file), "rules": 1, "tests": 1}
    code, out, _ = run("rules", "load", str(file))
    assert out.decode().splitlines()[1].split()[-2:] == ["0", "0"]
    code, out, _ = run("trace", "pc2", "pc1", "tcp", "22")
    assert code == ExitCode.FAILED
    assert b"rule_denied: rule 1: deny pc2 -> pc1 tcp 22\ndropped: rule_denied\n" in out
    assert run("trace", "pc2", "pc1", "tcp", "23")[0] == 0
    file.write_text(RULES + 'default = "drop"')
    for action in ("check", "load"):
        code, _, err = run("rules", action, str(file))
        assert code == ExitCode.USAGE
        assert f"{file}: rules.default = 'drop': write allow or deny" in err
    said = json.loads(run("rules", "--json")[1])
    assert said["rules"] == [{"rule": "deny pc2 -> pc1 tcp 22", "allowed": 0, "denied": 0}]
    assert said["unknown"] == []
    file.write_text('[rules]\nlist = ["deny pc9 -> pc1"]\n')
    assert b"nobody is called pc9: no member" in run("rules", "load", str(file))[1]
    assert run("rules", "load")[0] == ExitCode.USAGE
