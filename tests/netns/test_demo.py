"""`vswitch demo` as a user runs it: proof on the screen, nothing left on the machine."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vswitch.cli import main
from vswitch.lab import Lab, wait_until

ROOT = Path(__file__).resolve().parents[2]
# Root without capabilities, as an unprivileged user is; but who is root outside of a user namespace
# may be so inside of it with this capability only (user_namespaces(7)).
UNPRIVILEGED = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
TIMEOUT = 300  # seconds for a whole demo on a loaded machine


class Demo:
    """A running demo whose files are all below one directory, by which its traces are found."""

    def __init__(self, directory, tmp_path, *options, before=()):
        self.directory = directory
        self.errors = tmp_path / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "vswitch", "demo", *options],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def said(self):
        return self.errors.read_text()

    def wait_for(self, text):
        wait_until(
            lambda: text in self.said() or self.process.poll() is not None, text, timeout=TIMEOUT
        )
        assert text in self.said()

    def end(self):
        """Its exit code and its standard output."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, output

    def traces(self):
        """Files that are left, and processes that have its directory in their command line."""
        mark = str(self.directory).encode()
        found = [str(path) for path in self.directory.iterdir()]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if mark in line and b"pytest" not in line:
                found.append(line.replace(b"\0", b" ").decode())
        return found


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*options, before=()):
        started.append(Demo(directory, tmp_path, *options, before=before))
        return started[-1]

    # Short, for the paths of sockets are below it.
    directory = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.communicate()
    shutil.rmtree(directory)


def interfaces():
    return sorted(Path("/sys/class/net").iterdir())


@pytest.mark.netns
@pytest.mark.parametrize(
    "before",
    [[], pytest.param(UNPRIVILEGED, marks=pytest.mark.netns("setpriv"))],
    ids=["as-it-is", "unprivileged"],
)
def test_demo_proves_it_and_leaves_nothing(start, before):
    there = interfaces()
    demo = start("--seconds", "0.5", "--json", before=before)
    code, output = demo.end()
    assert code == 0, demo.said()
    report = json.loads(output)
    assert (report["schema"], report["problems"]) == (1, [])
    assert [member["name"] for member in report["members"]] == ["pc1", "pc2"]
    assert [(each["source"], each["version"]) for each in report["pings"]] == [
        ("pc1", 4), ("pc2", 4), ("pc1", 6), ("pc2", 6)
    ]  # fmt: skip
    assert all(flow["right"] and flow["mbit_per_s"] > 0 for flow in report["flows"])
    assert report["underlay"]["clear"] == 0 < report["underlay"]["datagrams"]
    assert len(report["underlay"]["suites"]) == 1
    assert demo.traces() == []
    assert interfaces() == there


@pytest.mark.netns
@pytest.mark.parametrize(
    ("moment", "number"),
    [("plugging in pc2", signal.SIGINT), ("sending data both ways for", signal.SIGTERM)],
)
def test_interrupted_demo_leaves_nothing(start, number, moment):
    demo = start("--seconds", "60")
    demo.wait_for(moment)
    demo.process.send_signal(number)
    code, output = demo.end()
    assert code == 130
    assert "Traceback" not in demo.said()
    assert output == ""
    assert demo.traces() == []


@pytest.mark.netns
def test_killed_demo_leaves_nothing(start):
    demo = start("--seconds", "60")
    demo.wait_for("sending data both ways for")
    assert demo.traces() != []
    demo.process.kill()
    demo.end()
    wait_until(lambda: demo.traces() == [], "end of all traces")


@pytest.mark.netns("nsenter", "ip")
def test_kept_demo_can_be_entered_and_its_report_read(start):
    demo = start("--seconds", "0.2", "--keep")
    demo.wait_for("vswitch status --state")
    enter = re.search(r"^  pc1 +(nsenter .*)$", demo.said(), re.MULTILINE)[1]
    shown = subprocess.run(
        [*shlex.split(enter), "ip", "-br", "addr", "show", "vsw0"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10.77.0." in shown.stdout
    state = re.search(r"--state (\S+)$", demo.said(), re.MULTILINE)[1]
    status = subprocess.run(
        [sys.executable, "-m", "vswitch", "status", "--state", state],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pc1" in status.stdout
    demo.process.send_signal(signal.SIGINT)
    code, output = demo.end()
    assert code == 0
    assert re.search(r"pc1  10\.77\.0\.\d+  fe80:", output)
    assert re.search(r"pc2 → pc1  IPv6 .* 20 of 20 answered", output)
    assert re.search(r"pc1 → pc2 +\d+ Mbit/s .* checksum right", output)
    assert output.endswith("all of it held\n")
    assert demo.traces() == []


@pytest.mark.netns("unshare", "mount")
def test_missing_device_node_is_said(tmp_path):
    script = 'mount -t tmpfs none /dev/net && exec "$@"'
    with Lab() as lab:
        done = lab.host("bare").run(
            ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "vswitch", "demo"],
            env={"TMPDIR": str(tmp_path)},
            check=False,
        )
    assert done.returncode == 7
    assert "the demo needs /dev/net/tun (No such file or directory)" in done.stderr
    assert "modprobe tun" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", "4000"])
def test_wrong_duration_is_refused(seconds, capsys):
    assert main(["demo", f"--seconds={seconds}"]) == 2
    assert f"'{seconds}' is no number of seconds" in capsys.readouterr().err
