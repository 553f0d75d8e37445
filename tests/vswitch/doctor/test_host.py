"""Probes of the host, on files and sockets of this test."""

import importlib.metadata
import os
import pathlib
import socket
import threading
from contextlib import contextmanager

import pytest
from attrs import evolve

from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.doctor import examine, host, way
from vswitch.doctor.findings import Facts, InstalledFacts, judge
from vswitch.joining import profiles
from vswitch.management.status import FaultStatus, JoinStatus, SwitchStatus
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.state import StateDir
from vswitch.version import VERSION

NOTHING = (None, [], [])


@pytest.fixture
def files(tmp_path):
    files = StateDir(tmp_path / "s")
    files.ensure()
    return files


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who looks at files of a service's user")
def test_root_looks_at_the_switch_of_a_service(files):
    served = LastServed((HostPort("::", 7000),), (), ServeConfig().subnet)
    with Registry.open(files.registry) as registry:
        registry.record_served(served)
    for each in (files.path, *files.path.iterdir()):
        os.chown(each, 65534, 65534)
    assert examine._served_port(files) == 7000


def command(directory, version):
    directory.mkdir()
    path = directory / "vswitch"
    path.write_text(f"#!/bin/sh\necho vswitch {version}\n")
    path.chmod(0o755)
    return str(path)


def test_other_commands_in_path_say_their_version(tmp_path, monkeypatch):
    first = command(tmp_path / "a", "1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/none:/bin:/usr/bin")
    assert all(path != first for path, _ in host.installed().others)
    second = command(tmp_path / "b", "2.0")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:/bin:/usr/bin")
    others = dict(host.installed().others)
    assert (others[first], others[second]) == ("1.0", "2.0")


def test_a_library_that_is_old_or_missing_is_told(monkeypatch):
    needs = ["trio>=0.1", "attrs>=999.1", "no-such-library>=1", 'pytest>=999; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    wrong = dict(host.installed().wrong)
    assert wrong.keys() == {"attrs", "no-such-library"}
    assert "999.1 or later is needed" in wrong["attrs"]
    monkeypatch.undo()
    assert host.installed().wrong == []


def test_what_runs_is_told_by_its_status():
    """Of a switch in which a feature has ended, and of joins of other versions."""
    fault = FaultStatus(ended="dhcp", port="", error="KeyError", reference="1a2b")
    switch = SwitchStatus(
        version="0.9",
        uptime_s=1.0,
        listen=":7450",
        subnet="10.77.0.0/24",
        mtu=1500,
        members=1,
        ended=[fault],
    )
    healthy = JoinStatus(
        name="a", state="up", server="s:1", version=VERSION, switch_software=f"vswitch {VERSION}"
    )
    joins = [
        healthy,
        evolve(healthy, name="b", state="connecting", error="no answer"),
        evolve(healthy, name="c", state="silent"),
        evolve(healthy, name="d", version="0.8", switch_software="vswitch 0.7"),
        evolve(healthy, name="e", dev="vsw1", lacking={"mtu": "1400", "up": "down"}),
    ]
    facts = Facts(
        running=host.running((switch, joins, []), None),
        installed=InstalledFacts(version=VERSION),
    )
    assert [(each.id, each.seen) for each in judge(facts)] == [
        ("not-connected", "b: no answer"),
        ("not-connected", "c: s:1 has owed answers for three seconds"),
        ("fault", "dhcp: KeyError, reference=1a2b"),
        ("other-version", f"the switch is 0.9, this command {VERSION}"),
        ("other-version", f"d is 0.8, this command {VERSION}"),
        ("interface-changed", "vsw1: mtu is 1400, up is down"),
        ("switch-version", "the switch of d is vswitch 0.7, this member vswitch 0.8"),
    ]


def test_a_port_that_somebody_has_is_told():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        port = other.getsockname()[1]
        assert str(port) in host.running(NOTHING, port).port_taken
    assert host.running(NOTHING, port).port_taken is None


def test_a_socket_that_takes_a_question_and_does_not_answer_is_told(files, monkeypatch):
    monkeypatch.setattr(host, "PATIENCE", 0.2)
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as dead:
        hung.bind(str(files.control_socket))
        hung.listen()
        dead.bind(str(files.join_socket("pc1")))  # the file of one that was killed
        found = host.ask_running(files)
    assert found[:2] == (None, [])
    assert [name for name, _ in found[2]] == ["control.sock"]


@contextmanager
def answering(path, answer):
    """A program behind a socket that says the same to all."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            while True:
                connection, _ = listener.accept()
                with connection:
                    if not connection.recv(65536):
                        return
                    connection.sendall(b"HTTP/1.1 500 x\r\n\r\n" + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


@pytest.mark.parametrize("answer", [b"[]", b'{"code": [], "error": 1}', b"[" * 100_000])
async def test_a_socket_that_answers_oddly_costs_no_other_and_no_session(
    files, monkeypatch, answer
):
    async def ask(*_):
        pytest.fail("a session with the key of a member that runs")

    monkeypatch.setattr(way, "ask", ask)
    monkeypatch.setattr(host, "PATIENCE", 0.2)
    with answering(files.join_socket("pc1"), answer), socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(files.join_socket("pc2")))
        hung.listen()
        _, _, silent, odd = host.ask_running(files)
        assert [name for name, _ in silent] == ["pc2.sock"]
        assert "answered what is no answer" in dict(odd)["pc1.sock"]
        monkeypatch.setattr(profiles, "names", lambda files: ["pc1", "pc2"])
        facts = await examine.examine(files, None, way_alone=True)
        monkeypatch.setattr(examine, "HOST_LIMIT", 0.1)  # so that nothing is known of any
        unknown = await examine.examine(files, None, way_alone=True)
    assert "no answer" in facts.failed["what runs at pc1.sock"]
    for each in (facts, unknown):
        assert "its session is left alone" in each.failed["way pc1"]
        assert "its session is left alone" in each.failed["way pc2"]


def test_what_programs_say_may_be_no_text(tmp_path, monkeypatch):
    nft = tmp_path / "nft"
    nft.write_bytes(b'#!/bin/sh\necho \'{"nftables": [{"comment": "\xff"}]}\'\n')
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_has_lines", lambda path: False)
    assert host.firewall("input", 7450) == []
    for name, said in (("a", r"\377"), ("b", "vswitch 2.0")):
        path = command(tmp_path / name, "1.0")
        pathlib.Path(path).write_text(f"#!/bin/sh\nprintf '{said}\\n'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:/bin:/usr/bin")
    assert [version for _, version in host.installed().others][:1] == ["2.0"]


def test_whoever_manages_an_interface_is_read_from_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(
        host,
        "MANAGERS",
        {name: (tmp_path / name, pattern) for name, (_, pattern) in host.MANAGERS.items()},
    )
    assert list(host.managers(7)) == []
    for name, text in (
        ("systemd-networkd", "# file\nADMIN_STATE=configured\n"),
        ("NetworkManager", "[device]\nmanaged=true\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "7").write_text(text)
    assert list(host.managers(7)) == ["systemd-networkd", "NetworkManager"]
    (tmp_path / "systemd-networkd" / "7").write_text("ADMIN_STATE=unmanaged\n")
    (tmp_path / "NetworkManager" / "7").write_text("[device]\nmanaged=false\n")
    assert list(host.managers(7)) == []


def test_settings_that_deny_namespaces_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    assert host.tap().user_namespaces is None
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "max_user_namespaces").write_text("0\n")
    assert host.tap().user_namespaces == "user.max_user_namespaces is 0"


def test_the_state_directory_and_its_keys(files):
    files.server_key.write_text("x")
    files.server_key.chmod(0o640)
    found = host.state(files)
    assert found.exposed == [str(files.server_key)]
    assert found.unusable is None
    assert found.free > 0
    files.path.chmod(0o777)
    assert "chmod go-w" in host.state(files).unusable
    assert host.state(StateDir(files.path / "none")).free is None


async def test_a_probe_that_fails_is_a_finding_and_costs_no_other(files, monkeypatch):
    def broken():
        raise RuntimeError("a mistake")

    monkeypatch.setattr(host, "tap", broken)
    facts = await examine.examine(files, None)
    assert facts.failed == {"tap": "RuntimeError('a mistake')"}
    assert facts.tap is None
    assert facts.installed is not None
    assert "probe-failed" in [each.id for each in judge(facts)]


async def test_a_probe_that_hangs_has_its_time(files, monkeypatch):
    monkeypatch.setattr(examine, "HOST_LIMIT", 0.2)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(files.control_socket))
        hung.listen()
        facts = await examine.examine(files, None, way_alone=True)
    assert facts.failed["running"] == "no answer within 0.2 s"


def test_how_far_a_clock_is_ahead():
    said = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert way.skew_of(said, 784111837.0, 784111839.0) == 61.0
    assert way.skew_of("yesterday", 0.0, 0.0) is None
    assert way.skew_of(f"Sun, 06 Nov {10**20} 08:49:37 GMT", 0.0, 0.0) is None
    assert way.skew_of(f"Sun, 06 Nov 1994 08:49:37 +{10**20}", 0.0, 0.0) is None
    assert way.skew_of(None, 0.0, 0.0) is None
