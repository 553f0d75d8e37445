"""The lab builds hosts that are really apart, and leaves nothing behind however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vswitch.devices import netlink
from vswitch.errors import TimedOut, VswitchError
from vswitch.lab import Lab, missing_for_lab, wait_until
from vswitch.lab import lab as lab_module
from vswitch.namespaces import enter

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=[False, True], ids=["as-allowed", "rootless"])
def lab(request):
    if request.param and not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")
    with Lab(rootless=request.param or None) as lab:
        yield lab


def alive(pid):
    """Whether the process runs; a zombie whose parent has not looked yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.netns
def test_linked_hosts_reach_each_other(lab):
    wire = lab.bridge("wire")
    hosts = [lab.host("pc1"), lab.host("pc2")]
    for number, host in enumerate(hosts, start=1):
        lab.link(host, wire, address=f"192.0.2.{number}/24")
    server = hosts[0].popen(
        [
            sys.executable,
            "-c",
            "import socket; l = socket.create_server(('', 7000)); print('ready', flush=True);"
            "c, _ = l.accept(); c.sendall(b'hello'); c.close()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout.readline() == "ready\n"
    greeting = hosts[1].run(
        [
            sys.executable,
            "-c",
            "import socket; print(socket.create_connection(('192.0.2.1', 7000), 10).recv(99))",
        ]
    )
    assert greeting.stdout == "b'hello'\n"


@pytest.mark.netns
def test_hosts_share_no_interface_and_no_hosts_file(lab):
    first, second = lab.host("pc1"), lab.host("pc2")
    first.call(netlink.create_tap, "vsw0")
    assert first.call(netlink.find_link, "vsw0").tap
    assert second.call(netlink.find_link, "vsw0") is None
    assert netlink.find_link("vsw0") is None
    first.hosts_file.write_text("192.0.2.77 switch.example\n")
    assert first.call(socket.gethostbyname, "switch.example") == "192.0.2.77"
    assert "switch.example" not in second.run(["cat", "/etc/hosts"]).stdout
    assert "switch.example" not in Path("/etc/hosts").read_text()


@pytest.mark.netns
def test_enter_command_enters(lab):
    host = lab.host("pc1")
    host.call(netlink.create_bridge, "only-here")
    listing = subprocess.run(
        [*host.enter.split(), "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
    )
    assert "only-here" in listing.stdout


@pytest.mark.netns
def test_failure_of_a_call_arrives_with_its_place():
    with Lab() as lab:
        with pytest.raises(VswitchError, match="configure nothing: No such device") as caught:
            lab.host("pc1").call(netlink.configure, "nothing", up=True)
    assert "netlink.py" in caught.value.__notes__[0]


@pytest.mark.netns
def test_a_call_at_a_time_with_a_deadline_and_a_quick_end():
    with Lab() as lab:
        host = lab.host("pc1")
        call = host.start(time.sleep, 300)
        with pytest.raises(RuntimeError, match="busy"):
            host.call(os.getpid)
        with pytest.raises(TimedOut, match="pc1 did not answer"):
            call.result(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < 60


@pytest.mark.netns
def test_killed_host_is_reported():
    with Lab() as lab:
        host = lab.host("pc1")
        os.kill(host.pid, signal.SIGKILL)
        with pytest.raises(VswitchError, match="pc1 is gone"):
            host.call(time.sleep, 300)


@pytest.mark.netns
def test_run_tells_what_failed():
    with Lab() as lab:
        host = lab.host("pc1")
        with pytest.raises(subprocess.CalledProcessError) as caught:
            host.run(["sh", "-c", "echo broken >&2; exit 3"])
        assert caught.value.returncode == 3
        assert "broken" in caught.value.__notes__[0]
        with pytest.raises(subprocess.TimeoutExpired):
            host.run(["sleep", "300"], timeout=0.1)
        assert host.run(["false"], check=False).returncode == 1
        assert host.run(["cat"], input="text").stdout == "text"
        with pytest.raises(subprocess.CalledProcessError) as caught:
            host.run(["no-such-program"])
        assert caught.value.returncode == enter.NO_PROGRAM


@pytest.mark.netns
def test_closing_ends_programs_and_removes_files(lab):
    host = lab.host("pc1")
    child = host.popen(["sleep", "300"])
    pids = [child.pid, host.pid]
    lab.close()
    assert not any(alive(pid) for pid in pids)
    assert not lab.directory.exists()


BUILD_AND_WAIT = """
import json, sys, time
from vswitch.lab import Lab
with Lab() as lab:
    host = lab.host("pc1")
    child = host.popen(["sleep", "300"])
    json.dump([str(lab.directory), host.pid, child.pid], sys.stdout)
    sys.stdout.write("\\n")
    sys.stdout.flush()
    time.sleep(300)
"""


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_stays_behind_when_the_lab_is_killed(number):
    with subprocess.Popen(
        [sys.executable, "-c", BUILD_AND_WAIT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        directory, *pids = json.loads(process.stdout.readline())
        assert all(alive(pid) for pid in pids)
        assert Path(directory).exists()
        process.send_signal(number)
    wait_until(lambda: not any(alive(pid) for pid in pids), "end of the lab's processes")
    wait_until(lambda: not Path(directory).exists(), "removal of the lab's directory")


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(lab_module, "TUN_PATH", str(tmp_path / "tun"))
    monkeypatch.setattr(lab_module, "_can", lambda *, rootless: False)
    privilege, device = missing_for_lab()
    assert privilege == "root, or user namespaces for unprivileged users"
    assert device == f"{tmp_path}/tun (No such file or directory)"


def test_lab_without_privilege_says_what_to_do(monkeypatch):
    monkeypatch.setattr(lab_module, "_can", lambda *, rootless: False)
    with pytest.raises(VswitchError, match="run as root, or allow user namespaces") as caught:
        Lab().__enter__()
    assert caught.value.exit_code == 7


def test_namespaces_of_nobody_cannot_be_entered(capsys):
    assert enter.main(["--join", "999999999", "--", "true"]) == enter.CANNOT_ENTER
    assert "cannot enter namespaces: No such file" in capsys.readouterr().err


def test_missing_program_is_named(capsys):
    assert enter.main(["--", "/no/such/program"]) == enter.NO_PROGRAM
    assert capsys.readouterr().err == ("cannot run /no/such/program: No such file or directory\n")


def test_wait_until_gives_the_answer_or_names_what_is_missing():
    answers = iter([None, 0, "yes"])
    assert wait_until(lambda: next(answers), "answer") == "yes"
    with pytest.raises(TimedOut, match="no answer within 0 s"):
        wait_until(lambda: None, "answer", timeout=0)
