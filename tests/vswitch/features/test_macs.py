"""The MAC table under management: settings, `vswitch mac` over the control socket, VLANs."""

import os
import signal
import subprocess
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.vswitch.control import switch_api
from vswitch.api.socket import serve_control
from vswitch.cli import main
from vswitch.errors import ConfigError, ExitCode, NotFound
from vswitch.features.macs import BRIDGE_LIMIT, MAC_LIMIT, MAX_STATIC, Macs
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.frames.ethernet import parse_mac
from vswitch.frames.records import frame_record
from vswitch.management.handlers.common import Controlled
from vswitch.state import StateDir
from vswitch.switch.port import Bound
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B, C = (bytes([2, 0, 0, 0, 0, number]) for number in (10, 11, 12))
ALL = b"\xff" * 6


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("VSWITCH_"):
            monkeypatch.delenv(name)


def frame(destination, source):
    return ethernet(destination, source, 0x0800, b"hello")


async def heard(devices, *frames, at=0):
    devices[at].feed(*frames)
    await wait_all_tasks_blocked()
    return [len(device.take()) for device in devices]


def table(managed):
    kind = managed.feature(Macs).kind
    return [
        (entry.mac[-2:], entry.vlan, entry.port, kind(entry.vlan, parse_mac(entry.mac)))
        for entry in managed.switch.fdb_entries()
    ]


async def test_the_settings_of_ports():
    said = {
        "p1": {"static_macs": ["02:00:00:00:00:0a"]},
        "p2": {"sticky": True, "mac_limit": 1},
        "p3": {"macs": ["02-00-00-00-00-0C"]},
    }
    async with open_switch() as switch:
        managed = FeatureManager(switch, Settings(ports=said))
        devices = [FakeDevice() for _ in range(3)]
        # The static address is p1's before there is a p1.
        switch.attach(devices[2], name="p3")
        second = switch.attach(devices[1], name="p2")
        assert await heard(devices, frame(ALL, A), at=1) == [0, 0, 0]
        first = switch.attach(devices[0], name="p1")
        assert await heard(devices, frame(A, B), at=1) == [1, 0, 0]
        assert table(managed) == [("0b", 0, 2, "sticky"), ("0a", 0, 3, "static")]
        assert await heard(devices, frame(ALL, B), frame(ALL, A)) == [0, 1, 1]
        assert await heard(devices, frame(ALL, C), at=1) == [0, 0, 0]
        assert await heard(devices, frame(ALL, B), frame(ALL, C), at=2) == [1, 1, 0]
        assert first.counters.snapshot().drops == {"mac_refused": 1}
        assert second.counters.snapshot().drops == {"mac_refused": 1, "mac_limit": 1}
        assert switch.explain(first, frame_record(frame(ALL, B))).reason == "mac_refused"
        noted = [event.kind for event in switch.events.since() if event.kind != "port-up"]
        assert noted == [
            *("mac-refused", "mac-refused", "mac-limit", "mac-refused"),
        ]
        managed.change_port("p1", {"static_macs": "none"})
        assert ("0a", 0, 3, "static") not in table(managed)
        totals = switch.statistics().totals
        assert totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped


async def test_vlans_and_static_addresses():
    said = {
        "p1": {"vlan": 10, "static_macs": ["02:00:00:00:00:0a", "02:00:00:00:00:0b@7"]},
        "p2": {"trunk": "10"},
    }
    async with open_switch() as switch:
        managed = FeatureManager(switch, Settings(ports=said))
        for name in ("p1", "p2"):
            switch.attach(FakeDevice(), name=name)
        assert table(managed) == [("0b", 7, 1, "static"), ("0a", 10, 1, "static")]
        managed.change_port("p1", {"vlan": "20"})
        assert table(managed) == [("0b", 7, 1, "static"), ("0a", 20, 1, "static")]
        macs = managed.feature(Macs)
        assert macs.add("p1", C, None) == 20
        with pytest.raises(ConfigError, match="name the VLAN"):
            macs.add("p2", C, None)
        assert macs.add("p2", C, 10) == 10
        assert macs.remove(C, None) == 2


async def test_what_cannot_be():
    async with open_switch() as switch:
        managed = FeatureManager(
            switch, Settings(ports={"p1": {"static_macs": ["02:00:00:00:00:0a"]}})
        )
        macs = managed.feature(Macs)
        with pytest.raises(ConfigError, match="unicast"):
            macs.add("p1", ALL, None)
        with pytest.raises(ConfigError, match="static_macs of port p1"):
            macs.remove(A, None)
        with pytest.raises(NotFound, match="no static address"):
            macs.remove(B, None)
        with pytest.raises(NotFound, match="no port 'p9'"):
            macs.flush("p9")
        for number in range(MAX_STATIC):
            macs.add("p1", b"\x02" + number.to_bytes(5, "big"), None)
        with pytest.raises(ConfigError, match="that is the limit"):
            macs.add("p1", C, None)
        for changes in ({"mac_limit": "0"}, {"macs": "ff:ff:ff:ff:ff:ff"}, {"static_macs": "x"}):
            with pytest.raises(ConfigError):
                managed.change_port("p1", changes)


async def test_the_command(tmp_path, capsys):
    state = str(tmp_path / "s")
    files = StateDir(tmp_path / "s")
    files.ensure()

    async def command(*argv):
        code = await trio.to_thread.run_sync(main, ["mac", *argv, "--state", state])
        said = capsys.readouterr()
        return code, said.out + said.err

    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch)
        handlers = switch_api(Controlled(managed, None, None, None))
        await nursery.start(serve_control, files.control_socket, handlers)
        devices = [FakeDevice() for _ in range(2)]
        for number, device in enumerate(devices, 1):
            switch.attach(device, name=f"p{number}")
        await heard(devices, frame(ALL, A))
        await heard(devices, frame(ALL, B), at=1)
        code, said = await command()
        assert code == 0
        assert [line.split() for line in said.splitlines()] == [
            ["MAC", "VLAN", "PORT", "KIND", "AGE"],
            ["02:00:00:00:00:0a", "-", "p1", "(1)", "learned", "0s"],
            ["02:00:00:00:00:0b", "-", "p2", "(2)", "learned", "0s"],
        ]
        code, said = await command("add", "p2", "02:00:00:00:00:0C")
        assert (code, said) == (0, "02:00:00:00:00:0c is that of port p2\n")
        code, said = await command("add", "p2", "02:00:00:00:00:0a", "7")
        assert "in VLAN 7" in said
        assert len((await command("list", "--port", "p2"))[1].splitlines()) == 4
        assert '"kind": "static"' in (await command("--json", "--vlan", "7"))[1]
        assert await command("del", "02:00:00:00:00:0c") == (0, "1 forgotten\n")
        assert (await command("del", "02:00:00:00:00:0c"))[0] == 5
        assert await command("flush", "--port", "p1", "--vlan", "7") == (0, "0 forgotten\n")
        assert await command("flush", "--port", "p1") == (0, "1 forgotten\n")
        assert await command("flush", "--all") == (0, "1 forgotten\n")
        assert (await command("flush", "--port", "p9"))[0] == 5
        for wrong in (
            ["flush"],
            ["flush", "--all", "--port", "p1"],
            ["list", "x"],
            ["add", "p1"],
            ["add", "p1", "x"],
            ["add", "p1", "02:00:00:00:00:0c", "5000"],
            ["del", "02:00:00:00:00:0c", "--port", "p1"],
            ["--all"],
        ):
            code, said = await command(*wrong)
            assert code == 2, said
            assert said.startswith("vswitch: error: ")
        nursery.cancel_scope.cancel()


async def test_stations_are_watched_as_they_come_move_and_go(tmp_path):
    state = str(tmp_path / "s")
    files = StateDir(tmp_path / "s")
    files.ensure()
    argv = [sys.executable, "-m", "vswitch", "mac", "--watch", "--state", state]

    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch)
        handlers = switch_api(Controlled(managed, None, None, None))
        await nursery.start(serve_control, files.control_socket, handlers)
        devices = [FakeDevice() for _ in range(2)]
        for number, device in enumerate(devices, 1):
            switch.attach(device, name=f"p{number}")
        await heard(devices, frame(ALL, A))

        async def watch():
            return await trio.lowlevel.open_process(
                argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

        async def line(process):
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stdout.receive_some(1)
            return said.decode().split()[1:]

        watching = await watch()
        assert await line(watching) == ["known", "02:00:00:00:00:0a", "port=p1"]
        await heard(devices, frame(ALL, B), at=1)
        assert await line(watching) == ["learned", "02:00:00:00:00:0b", "port=p2"]
        await heard(devices, frame(ALL, A), at=1)
        assert await line(watching) == ["moved", "02:00:00:00:00:0a", "port=p2", "from=p1"]
        switch.fdb.flush()
        gone = sorted([await line(watching), await line(watching)])
        assert gone == [["gone", f"02:00:00:00:00:0{x}", "port=p2"] for x in "ab"]
        watching.send_signal(signal.SIGINT)
        assert await watching.wait() == ExitCode.INTERRUPTED
        assert await watching.stderr.receive_some() == b""

        await heard(devices, frame(ALL, A))
        watching = await watch()
        assert await line(watching) == ["known", "02:00:00:00:00:0a", "port=p1"]
        await watching.stdout.aclose()
        await heard(devices, frame(ALL, B))
        await watching.wait()
        assert await watching.stderr.receive_some() == b""
        nursery.cancel_scope.cancel()


MANY = [bytes([2, 0, 0, 1, *divmod(number, 256)]) for number in range(BRIDGE_LIMIT + 1)]


@pytest.mark.parametrize(
    ("guard", "said", "bound", "limit"),
    [
        ("off", {}, Bound(A), BRIDGE_LIMIT),
        ("on", {}, Bound(A), MAC_LIMIT),
        ("on", {"trusted": "yes"}, Bound(A), BRIDGE_LIMIT),
        ("on", {"mac_limit": "40"}, Bound(A), 40),
        ("off", {"mac_limit": "40"}, Bound(A), 40),
        ("on", {}, None, BRIDGE_LIMIT),
    ],
)
async def test_a_members_word_alone_raises_no_limit_under_guard(guard, said, bound, limit):
    async with open_switch() as switch:
        managed = FeatureManager(switch)
        device = FakeDevice()
        port = switch.attach(device, name="office", bridge=True, bound=bound)
        managed.change_port("office", {"source_guard": "no", **said})
        managed.change_switch({"guard": guard})
        device.feed(*(ethernet(ALL, source, 0x88B5, b"x") for source in MANY))
        await wait_all_tasks_blocked()
        assert len(switch.fdb_entries()) == limit
        assert port.counters.drops["mac_limit"] == len(MANY) - limit
