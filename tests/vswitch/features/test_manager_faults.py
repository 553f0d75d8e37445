"""A feature that raises, in any of its hooks, costs a port or itself, and nobody else anything."""

import inspect

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.errors import VswitchError
from vswitch.features import manager as managed
from vswitch.features.base import Feature, Stages
from vswitch.features.manager import FeatureManager
from vswitch.features.trust import Served
from vswitch.frames.records import frame_record
from vswitch.switch.fdb import LearningPolicy
from vswitch.switch.stages import Explained, Stage
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B, GROUP = (bytes.fromhex(text) for text in ("02000000000a", "02000000000b", "01005e010203"))


def methods(kind):
    """The names of what is called of it."""
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"]


# What the switch calls into a feature: its hooks, and those of what it has others call.
HOOKS = [
    *methods(Feature),
    *(name for name, said in vars(Feature).items() if said is None and name != "learning"),
    *(f"learning.{name}" for name in methods(LearningPolicy)),
    *(f"stage.{name}" for name in methods(Stage)),
]


class Sound(Feature[object, object]):
    """Takes part in everything; counts how often it was asked for what."""

    keeps_apart = knows_groups = True

    def __init__(self, switch):
        self.asked = []
        for name in methods(Feature):
            setattr(self, name, self._hook(name, getattr(self, name)))
        self.moved = self._hook("moved", lambda *_: None)
        self.learning = self._part("learning", LearningPolicy)

    def port_stages(self, port, settings):
        return Stages(self._part("stage", Stage))

    def fail(self, hook, args):
        pass

    def _part(self, prefix, kind):
        part = type(prefix, (), {})()
        answers = {"take": lambda records, *_: records, "explain": lambda r, _: Explained(r, "")}
        for name in methods(kind):
            plain = answers.get(name, lambda *_: None)
            setattr(part, name, self._hook(f"{prefix}.{name}", plain))
        return part

    def _hook(self, name, plain):
        def asked(*args):
            self.asked.append(name)
            self.fail(name, args)
            return plain(*args)

        return asked


class Broken(Sound):
    """Raises in one hook, once it is armed."""

    hook, armed = "", True

    def fail(self, hook, args):
        if self.armed and hook == self.hook:
            raise ZeroDivisionError("a bug")


@pytest.fixture
async def faulty(request, monkeypatch):
    hook, guards, armed = request.param
    monkeypatch.setattr(Broken, "hook", hook)
    monkeypatch.setattr(Broken, "guards", guards)
    monkeypatch.setattr(Broken, "armed", armed)
    monkeypatch.setattr(managed, "FEATURES", (Broken, Sound))
    async with open_switch() as switch, trio.open_nursery() as nursery:
        manager = FeatureManager(switch)
        nursery.start_soon(manager.run)
        yield manager
        nursery.cancel_scope.cancel()


def kinds(*hooks, armed=True):
    """Each of these hooks of a feature that guards, and of one that does not."""
    given = [(hook, guards, armed) for hook in hooks for guards in (True, False)]
    names = [f"{hook}-{'guards' if guards else 'adds'}" for hook, guards, _ in given]
    return pytest.mark.parametrize("faulty", given, ids=names, indirect=True)


async def use_everything(manager):
    """Have every hook called at least once; the ports that it was done with."""
    switch = manager.switch
    devices = [FakeDevice() for _ in range(4)]
    ports = [switch.attach(device, name=f"p{n}") for n, device in enumerate(devices)]
    frames = (ethernet(B, A, 0x88B5), ethernet(A, B, 0x88B5), ethernet(GROUP, A, 0x88B5))
    for device, frame in ((0, frames[0]), (1, frames[1]), (1, frames[0]), (0, frames[2])):
        devices[device].feed(frame)
        await wait_all_tasks_blocked()
    manager.reserve({A: "p0"}, {})
    manager.renamed({"before": "p0"})
    manager.serve(Served())
    for change in (lambda: manager.change_port("p0", {}), lambda: ask(switch, frames[0])):
        try:
            change()
        except VswitchError as error:
            assert "fault of vswitch" in str(error)  # noqa: PT017
    switch.thaw_stations()
    switch.detach(ports[3])
    await trio.sleep(3)
    return ports


def ask(switch, frame):
    for port in switch.ports[:1]:
        switch.explain(port, frame_record(ethernet(A, b"\x06" + frame[7:12], 0x88B5)))


@kinds(*HOOKS, armed=False)
async def test_whichever_hook_raises_the_switch_and_the_other_features_go_on(
    faulty, autojump_clock
):
    Broken.armed = True
    faulty.features[0].armed = True
    await use_everything(faulty)
    broken, sound = faulty.features
    hook = Broken.hook
    if hook != "run":  # began before it could be told to raise
        assert hook in broken.asked
        assert faulty.switch.faults.count
    before = len(sound.asked)
    late = faulty.switch.attach(FakeDevice(), name="late")
    await trio.sleep(2)
    assert "tick" in sound.asked[before:]
    assert late.attached or hook in ("port_up", "port_stages")


@kinds(*HOOKS, armed=False)
async def test_what_has_ended_is_asked_for_nothing_but_what_it_keeps_out(faulty, autojump_clock):
    broken = faulty.features[0]
    broken.armed = True
    await use_everything(faulty)
    await trio.sleep(2)
    ended = "Broken" in {fault.what for fault in faulty.switch.faults.ended}
    broken.asked.clear()
    broken.armed = False
    await use_everything(faulty)
    if not ended:
        return
    still = {name for name in broken.asked if not name.startswith("learning.")}
    shut = {
        "validate",
        "settings_changed",
        "reserved",
        "renamed",
        "served",
        "port_up",
        "port_stages",
        "port_down",
    }
    assert still <= ({*shut, "reaches", "stage.take", "stage.explain"} if broken.guards else set())
    with pytest.raises(VswitchError, match="has ended"):
        faulty.feature(Broken)


@kinds("validate", "settings_changed", armed=False)
async def test_settings_that_a_feature_cannot_take_change_nothing(faulty, autojump_clock):
    before = faulty.settings
    faulty.features[0].armed = True
    with pytest.raises(VswitchError, match="nothing has changed: see the log"):
        faulty.change_switch({"guard": "on"})
    assert faulty.settings is before
    (told, *_) = faulty.switch.faults.latest
    assert told.what == "new settings of Broken"


@kinds("reaches", armed=False)
async def test_what_keeps_ports_apart_opens_nothing_when_it_raises(faulty, autojump_clock):
    faulty.features[0].armed = True
    one, other = FakeDevice(), FakeDevice()
    faulty.switch.attach(one, name="one")
    faulty.switch.attach(other, name="other")
    one.feed(ethernet(b"\xff" * 6, A, 0x88B5))
    await wait_all_tasks_blocked()
    assert not other.take()


@kinds("port_up", "port_stages")
async def test_a_port_where_a_feature_raises_is_not_left_open(faulty, autojump_clock):
    ports = [faulty.switch.attach(FakeDevice(), name=name) for name in ("a", "b")]
    await trio.sleep(3)
    assert [port.attached for port in ports] == [False, False]
    assert {fault.what for fault in faulty.switch.faults.latest} == {"Broken"}
    assert faulty.features[1].asked.count("tick") > 1
    assert faulty.features[1].asked.count("port_down") == 2


@kinds("port_down")
async def test_the_others_hear_that_a_port_is_down_when_one_raises(faulty, autojump_clock):
    first, second = [faulty.switch.attach(FakeDevice(), name=name) for name in ("a", "b")]
    faulty.switch.detach(first)
    assert faulty.features[1].asked.count("port_down") == 1
    assert second.attached
    assert [fault.port for fault in faulty.switch.faults.latest] == ["a"]


@kinds("tick", "run")
async def test_a_feature_that_raises_by_itself_is_left_out_and_the_others_go_on(
    faulty, autojump_clock
):
    port = faulty.switch.attach(FakeDevice(), name="a")
    await trio.sleep(5.5)
    assert port.attached
    assert faulty.features[1].asked.count("tick") == 5
    assert faulty.features[0].asked.count("tick") == (1 if Broken.hook == "tick" else 0)
    (fault,) = faulty.switch.faults.ended
    assert (fault.what, fault.port) == ("Broken", "")
    assert [each.kind for each in faulty.switch.events.since()] == ["fault"]
