"""A feature that raises, in any of its hooks, costs a port or itself, and nobody else anything."""

import pytest
import trio

from vswitch.features import manager as managed
from vswitch.features.base import Feature, Stages
from vswitch.features.manager import FeatureManager
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice


class Broken(Feature[object, object]):
    """Raises in one hook, at the port of number 1 where it is about ports."""

    hook = ""

    def __init__(self, switch):
        self.ticks = 0

    def fail(self, hook, number=1):
        if hook == self.hook and number == 1:
            raise ZeroDivisionError("a bug")

    def port_up(self, port):
        self.fail("port_up", port.number)

    def port_stages(self, port, settings):
        self.fail("port_stages", port.number)
        return Stages()

    def port_down(self, number):
        self.fail("port_down", number)

    def tick(self, now):
        self.ticks += 1
        self.fail("tick")

    async def run(self):
        self.fail("run")


class Sound(Broken):
    def __init__(self, switch):
        super().__init__(switch)
        self.down = []

    def fail(self, hook, number=1):
        pass

    def port_down(self, number):
        self.down.append(number)


@pytest.fixture
async def faulty(request, monkeypatch, autojump_clock):
    monkeypatch.setattr(Broken, "hook", request.param)
    monkeypatch.setattr(managed, "FEATURES", (Broken, Sound))
    async with open_switch() as switch, trio.open_nursery() as nursery:
        manager = FeatureManager(switch)
        nursery.start_soon(manager.run)
        yield manager
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("faulty", ["port_up", "port_stages"], indirect=True)
async def test_a_port_where_a_feature_raises_is_not_left_open(faulty):
    first, second = [faulty.switch.attach(FakeDevice(), name=name) for name in ("a", "b")]
    await trio.sleep(3)
    # The number is free again, and goes to the next one.
    assert [first.attached, second.attached] == [False, False]
    faulty.switch.attach(FakeDevice(), name="c")
    assert {fault.what for fault in faulty.switch.faults.latest} == {"Broken"}
    assert faulty.feature(Sound).ticks > 1
    assert faulty.feature(Sound).down == [1, 1, 1]


@pytest.mark.parametrize("faulty", ["port_down"], indirect=True)
async def test_the_others_hear_that_a_port_is_down_when_one_raises(faulty):
    first, second = [faulty.switch.attach(FakeDevice(), name=name) for name in ("a", "b")]
    faulty.switch.detach(first)
    assert faulty.feature(Sound).down == [1]
    assert second.attached
    assert [fault.port for fault in faulty.switch.faults.latest] == ["a"]


@pytest.mark.parametrize("faulty", ["tick", "run"], indirect=True)
async def test_a_feature_that_raises_by_itself_is_left_out_and_the_others_go_on(faulty):
    port = faulty.switch.attach(FakeDevice(), name="a")
    await trio.sleep(5.5)
    assert port.attached
    assert faulty.feature(Sound).ticks == 5
    assert faulty.features[0].ticks == (1 if Broken.hook == "tick" else 0)
    (fault,) = faulty.switch.faults.latest
    assert (fault.what, fault.port) == ("Broken", "")
    assert [each.kind for each in faulty.switch.events.since()] == ["fault"]
