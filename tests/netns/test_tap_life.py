"""The life of a TAP interface: made, configured, shared, refused, and gone with its process."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices import tap as tap_setup
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.frames.records import frame_record
from vswitch.lab import wait_until
from vswitch.switch.device import Device

pytestmark = [pytest.mark.netns, pytest.mark.inside]

MAC = "02:00:5e:00:53:07"
LINK_LOCAL = "fe80::5eff:fe00:5307/64"  # RFC 4291 appendix A, from MAC
CONFIG = TapConfig("vsw0", mac=MAC, mtu=1500, address="10.77.0.2/24")
FRAME = frame_record(b"\xff" * 12 + b"\x88\xb5" + bytes(46))
TIMEOUT = 20  # seconds


async def in_thread(question, what):
    return await trio.to_thread.run_sync(lambda: wait_until(question, what))


async def test_interface_is_as_configured_and_gone_afterwards():
    async with open_tap(CONFIG) as device:
        link = netlink.find_link("vsw0")
        assert (link.mac, link.mtu, link.up, link.tap) == (MAC, 1500, True, True)
        assert (device.name, device.mac, device.mtu) == ("vsw0", MAC, 1500)
        assert not device.persistent
        assert isinstance(device, Device)
        await in_thread(lambda: LINK_LOCAL in netlink.addresses("vsw0"), "IPv6 link-local address")
        assert netlink.addresses("vsw0") == ["10.77.0.2/24", LINK_LOCAL]
    assert netlink.find_link("vsw0") is None


async def test_address_is_replaced_and_removed():
    async with open_tap(TapConfig("vsw0", mac=MAC)) as device:

        def ipv4():
            return [address for address in netlink.addresses("vsw0") if ":" not in address]

        assert ipv4() == []
        await device.set_address("10.77.0.2/24")
        await device.set_address("10.77.0.2/24")
        assert ipv4() == ["10.77.0.2/24"]
        await device.set_address("10.77.0.9/24")
        assert ipv4() == ["10.77.0.9/24"]
        await device.set_address("10.88.0.9/16")
        assert ipv4() == ["10.88.0.9/16"]
        await device.set_address(None)
        assert ipv4() == []
        assert device.address is None


async def test_interface_in_use_is_refused_and_kept():
    async with open_tap(CONFIG) as device:
        with pytest.raises(VswitchError, match=r"vsw0 is in use by another process.*--dev"):
            async with open_tap(CONFIG):
                pass
        assert device.write_nowait([FRAME]) == 1
        assert not device.dropped


async def test_other_kinds_of_interface_are_refused_and_kept():
    netlink.create_bridge("vsw0")
    try:
        with pytest.raises(VswitchError, match=r"is no TAP interface.*--dev"):
            async with open_tap(CONFIG):
                pass
        assert netlink.find_link("vsw0").kind == "bridge"
    finally:
        netlink.delete("vsw0")


async def test_interface_of_an_administrator_is_used_and_stays():
    netlink.create_tap("vsw0")
    try:
        async with open_tap(CONFIG) as device:
            assert device.persistent
            assert netlink.find_link("vsw0").mac == MAC
            assert device.write_nowait([FRAME]) == 1
            assert not device.dropped
        assert netlink.find_link("vsw0").tap
        async with open_tap(CONFIG) as device:
            assert device.persistent
    finally:
        netlink.delete("vsw0")


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize(
    "options", [["multi_queue"], ["multi_queue", "vnet_hdr"], ["vnet_hdr"], ["pi"], []]
)
async def test_interfaces_of_any_options_are_used_by_one_process(options, offload):
    words = ["ip", "tuntap", "add", "dev", "vsw0", "mode", "tap", *options]
    await trio.run_process(words)
    try:
        config = TapConfig("vsw0", mac=MAC, offload=offload)
        async with open_tap(config) as device:
            assert device.persistent
            assert device.superframes is offload
            frames = [frame_record(bytes(12) + b"\x88\xb5" + bytes(46))]
            assert device.write_nowait(frames) == 1
            assert not device.dropped
            with pytest.raises(VswitchError, match=r"vsw0 is in use by another process.*--dev"):
                async with open_tap(config):
                    pass
        async with open_tap(config) as device:
            assert device.persistent
    finally:
        netlink.delete("vsw0")


@pytest.mark.netns("setpriv")
def test_an_interface_of_another_user_is_named():
    words = ["ip", "tuntap", "add", "dev", "vsw0", "mode", "tap", "user", "4711"]
    subprocess.run(words, check=True)
    try:
        with opener(*WITHOUT_CAPABILITIES) as process:
            _, error = process.communicate(timeout=TIMEOUT)
        assert error.startswith("7 cannot attach to vsw0: it is there already, for another user")
    finally:
        netlink.delete("vsw0")


async def test_missing_device_node_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(tap_setup, "TUN_PATH", str(tmp_path / "tun"))
    with pytest.raises(PrivilegeError, match=r"No such file.*modprobe tun.*--device"):
        async with open_tap(CONFIG):
            pass
    assert netlink.find_link("vsw0") is None


async def test_refused_device_node_says_what_to_do(monkeypatch):
    def refuse(path, flags):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(tap_setup.os, "open", refuse)
    with pytest.raises(
        PrivilegeError, match="not permitted; run as root, or let this user open it"
    ):
        tap_setup._open_tun()


OPEN_AND_WAIT = """
import sys, trio
from vswitch.errors import VswitchError
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
async def main():
    async with open_tap(TapConfig("vsw0", address="10.77.0.2/24")) as device:
        print("up", device.persistent, flush=True)
        await trio.sleep_forever()
try:
    trio.run(main)
except VswitchError as error:
    sys.exit(f"{error.exit_code} {error}")
"""
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def opener(*before):
    return subprocess.Popen(
        [*before, sys.executable, "-c", OPEN_AND_WAIT],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_process_takes_the_interface_along(number):
    with opener() as process:
        assert process.stdout.readline() == "up False\n"
        assert netlink.find_link("vsw0").up
        process.send_signal(number)
    wait_until(lambda: netlink.find_link("vsw0") is None, "end of the interface")


@pytest.mark.netns("setpriv")
def test_without_privilege_says_what_to_do():
    with opener(*WITHOUT_CAPABILITIES) as process:
        _, error = process.communicate(timeout=TIMEOUT)
    assert error.startswith("7 cannot create the TAP device vsw0: Operation not permitted")
    assert "run as root" in error
    assert "ip tuntap add dev vsw0 mode tap user" in error
    assert netlink.find_link("vsw0") is None


@pytest.mark.netns("setpriv")
def test_unprivileged_user_takes_what_was_made_for_him():
    netlink.create_tap("vsw0")
    try:
        with opener(*WITHOUT_CAPABILITIES) as process:
            first = process.stdout.readline()
            process.kill()
        assert first == "up True\n"
        assert netlink.find_link("vsw0").tap
        assert "10.77.0.2/24" not in netlink.addresses("vsw0")
    finally:
        netlink.delete("vsw0")
