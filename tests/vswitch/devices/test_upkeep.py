"""What lacks of an interface, how often it is put back, and what is said of it."""

import pytest
import trio
from attrs import evolve

from vswitch.devices import upkeep
from vswitch.devices.upkeep import Condition, Kept, MendLimit, keep, lacking
from vswitch.errors import VswitchError

WANTED = Condition(up=True, mtu=1500, addresses=("10.77.0.2/24",), link_local=True)


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({}, {}),
        ({"addresses": ("10.77.0.2/24", "192.0.2.1/24")}, {}),
        ({"addresses": ()}, {"address": "none"}),
        ({"addresses": ("10.77.0.2/16", "fe80::1/64")}, {"address": "10.77.0.2/16"}),
        ({"link_local": False}, {"link-local": "none"}),
        ({"up": False}, {"up": "down"}),
        ({"mtu": 1400, "up": False}, {"mtu": "1400", "up": "down"}),
    ],
)
def test_what_lacks(changes, lacks):
    assert lacking(WANTED, evolve(WANTED, **changes)) == lacks


def test_what_was_never_there_does_not_lack():
    wanted = Condition(up=True, mtu=1500, addresses=(), link_local=False)
    assert lacking(wanted, wanted) == lacking(wanted, WANTED) == {}


def test_a_few_times_at_once_then_once_a_minute():
    limit = MendLimit()
    assert [limit.wait(1000.0) for _ in range(6)] == [0.0] * 5 + [60.0]
    assert limit.wait(1060.0) == pytest.approx(60.0)
    assert limit.wait(1120.0 + 120.0) == 0.0
    assert [limit.wait(10_000.0) for _ in range(6)] == [0.0] * 5 + [60.0]


class Contested:
    """An interface of which somebody takes the address away as often as it is given."""

    name, private = "vsw0", False

    def __init__(self):
        self.lacks, self.mended, self.refuse = {}, [], None

    async def lacking(self):
        await trio.lowlevel.checkpoint()
        return self.lacks

    async def mend(self):
        await trio.lowlevel.checkpoint()
        if self.refuse is not None:
            raise self.refuse
        self.mended.append(trio.current_time())
        return self.lacks


@pytest.fixture
def interface(monkeypatch):
    async def watch_network(changed):
        while True:
            await changed()
            await trio.sleep(1)

    monkeypatch.setattr(upkeep, "watch_network", watch_network)
    interface = Contested()
    assert isinstance(interface, Kept)
    return interface


async def test_what_lacks_is_put_back_and_told(autojump_clock, interface, nursery, caplog):
    nursery.start_soon(keep, interface)
    await trio.sleep(10)
    assert interface.mended == []
    interface.lacks = {"address": "none"}
    await trio.sleep(1)
    interface.lacks = {}
    await trio.sleep(10)
    assert len(interface.mended) == 1
    assert "interface-mended dev=vsw0 what=address was=none" in caplog.text


async def test_who_means_it_is_not_fought_for_ever(autojump_clock, interface, nursery, caplog):
    nursery.start_soon(keep, interface)
    interface.lacks = {"up": "down"}
    await trio.sleep(630)
    assert len(interface.mended) == pytest.approx(5 + 10, abs=1)
    assert caplog.text.count("interface-contested dev=vsw0 what=up") == 1
    interface.lacks = {}
    await trio.sleep(3600)
    interface.lacks = {"up": "down"}
    await trio.sleep(630)
    assert caplog.text.count("interface-contested") == 2


async def test_what_the_kernel_refuses_is_told_once(autojump_clock, interface, nursery, caplog):
    nursery.start_soon(keep, interface)
    interface.lacks, interface.refuse = {"address": "none"}, VswitchError("no privilege")
    await trio.sleep(600)
    assert caplog.text.count("interface-not-mended") == 1
    interface.refuse = None
    await trio.sleep(600)
    interface.refuse = VswitchError("no privilege")
    await trio.sleep(600)
    assert caplog.text.count("interface-not-mended") == 2
    interface.refuse = trio.BrokenResourceError("vsw0 is gone")
    await trio.sleep(600)
    assert caplog.text.count("interface-not-mended") == 2
