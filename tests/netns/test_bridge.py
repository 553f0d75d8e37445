"""A TAP in a bridge of this kernel: put in, taken out, and nothing left behind."""

import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.bridge import enter_bridge, in_bridge, open_host_end
from vswitch.devices.home_filter import HomeFilter
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError

pytestmark = [pytest.mark.netns, pytest.mark.inside]


class Wishes:
    bridge = "eth1"
    bridge_dhcp = bridge_ra = False


@pytest.fixture
def eth1():
    netlink.create_veth("eth1", "far1")
    netlink.configure("eth1", up=True)
    netlink.configure("far1", up=True)
    netlink.add_address("eth1", "10.5.0.1/24")
    yield
    netlink.delete("eth1")


def of(name):
    return netlink.find_link(name)


def global_addresses(name):
    return [each for each in netlink.addresses(name) if not each.startswith("fe80")]


async def test_a_bridge_that_is_there():
    netlink.create_bridge("br0")
    async with open_tap(TapConfig("vsw0")):
        async with in_bridge("vsw0", "br0") as place:
            assert place.interface is None
            assert of("vsw0").master == "br0"
            assert netlink.addresses("vsw0") == []
        assert of("vsw0").master is None
    assert of("br0") is not None
    netlink.delete("br0")


async def test_an_interface_gets_a_bridge_and_its_addresses_back(eth1):
    async with open_host_end(open_tap, TapConfig("vsw0"), Wishes()) as device:
        assert isinstance(device, HomeFilter)
        assert of("eth1").master == of("vsw0").master == "vsb-eth1"
        assert sorted(netlink.bridge_ports("vsb-eth1")) == ["eth1", "vsw0"]
        assert of("vsb-eth1").mac == of("eth1").mac
        assert global_addresses("vsb-eth1") == ["10.5.0.1/24"]
        assert global_addresses("eth1") == []
    assert of("vsb-eth1") is None
    assert of("vsw0") is None
    assert of("eth1").master is None
    assert global_addresses("eth1") == ["10.5.0.1/24"]


async def test_a_cancelled_member_leaves_no_bridge(eth1):
    with trio.CancelScope() as scope:
        async with open_host_end(open_tap, TapConfig("vsw0"), Wishes()):
            assert of("vsb-eth1") is not None
            scope.cancel()
            await trio.sleep_forever()
    assert of("vsb-eth1") is None
    assert of("eth1").master is None


async def test_a_bridge_that_was_left_behind_is_adopted(eth1):
    async with open_tap(TapConfig("vsw0")):
        enter_bridge("vsw0", "eth1")  # and the process is killed
    assert netlink.bridge_ports("vsb-eth1") == ["eth1"]
    async with open_host_end(open_tap, TapConfig("vsw0"), Wishes()):
        assert sorted(netlink.bridge_ports("vsb-eth1")) == ["eth1", "vsw0"]
    assert of("vsb-eth1") is None
    assert global_addresses("eth1") == ["10.5.0.1/24"]


async def test_a_second_tap_keeps_the_bridge(eth1):
    async with open_tap(TapConfig("vsw1")):
        async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
            second = enter_bridge("vsw1", "eth1")
            assert second.bridge == "vsb-eth1"
        assert netlink.bridge_ports("vsb-eth1") == ["eth1", "vsw1"]
        async with in_bridge("vsw1", "eth1"):
            pass
        assert of("vsb-eth1") is None


async def test_an_interface_in_somebody_elses_bridge(eth1):
    netlink.create_bridge("br0")
    netlink.configure("eth1", master="br0")
    async with open_tap(TapConfig("vsw0")), in_bridge("vsw0", "eth1"):
        assert of("vsw0").master == "br0"
    assert of("eth1").master == "br0"
    netlink.delete("br0")


async def test_a_bridge_that_cannot_be_joined_is_refused():
    async with open_tap(TapConfig("vsw0")):
        for target, message in (("nobody", "there is no bridge"), ("vsw0", "the TAP itself")):
            with pytest.raises(VswitchError, match=message):
                async with in_bridge("vsw0", target):
                    pass
