"""Settings reach the features, and features the ports, whichever comes first."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.config.sources import option, options_of
from vswitch.config.words import to_bool
from vswitch.errors import ConfigError, NotFound
from vswitch.features import manager as managed
from vswitch.features import settings
from vswitch.features.base import Feature, Stages
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import PortSettings as AllPortSettings
from vswitch.features.settings import Settings, load_settings
from vswitch.switch.counters import DropReason
from vswitch.switch.port import Port
from vswitch.switch.shaper import Shaper
from vswitch.switch.stages import Explained
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

BROADCAST = ethernet(b"\xff" * 6, bytes.fromhex("02000000000a"), 0x0800, b"hello")


@attrs.frozen(kw_only=True)
class PortSettings:
    deaf: bool = attrs.field(
        default=False, converter=to_bool, metadata=option("hears nothing", kind="switch")
    )
    mute: bool = attrs.field(
        default=False, converter=to_bool, metadata=option("says nothing", kind="switch")
    )


class Nothing:
    def take(self, records, now, counters):
        counters.drop(DropReason.RUNT, len(records))
        return []

    def explain(self, record, now):
        return Explained(None, "mute", DropReason.RUNT)


class Manners(Feature[object, PortSettings]):
    keeps_apart = True

    def __init__(self, switch):
        self.deaf, self.ticks, self.left = set(), 0, []

    def port_stages(self, port, settings):
        (self.deaf.add if settings.deaf else self.deaf.discard)(port.number)
        return Stages(Nothing() if settings.mute else None)

    def reaches(self, ingress, egress, vlan):
        return egress not in self.deaf

    def tick(self, now):
        self.ticks += 1

    def port_down(self, number):
        self.left.append(number)


@pytest.fixture(autouse=True)
def manners(monkeypatch):
    monkeypatch.setattr(settings, "PortSettings", PortSettings)
    monkeypatch.setattr(managed, "FEATURES", (Manners,))


async def heard(devices):
    devices[0].feed(BROADCAST)
    await wait_all_tasks_blocked()
    return [len(device.take()) for device in devices[1:]]


async def test_ports_have_stages_by_their_settings_whether_said_before_or_live():
    async with open_switch() as switch:
        devices = [FakeDevice() for _ in range(3)]
        early = switch.attach(devices[0], name="pc1")
        said = Settings(ports={"pc2": {"deaf": True}})
        under = FeatureManager(switch, said)
        later = [switch.attach(device, name=f"pc{n}") for n, device in enumerate(devices[1:], 2)]
        assert await heard(devices) == [0, 1]
        under.change_port("pc2", {"deaf": "no"})
        assert await heard(devices) == [1, 1]
        under.change_port("pc1", {"mute": "yes"})
        assert await heard(devices) == [0, 0]
        assert switch.explain(early, b"\0\0" + BROADCAST).reason == DropReason.RUNT
        under.change_port("pc1", {"mute": "no"})
        under.change_port("*", {"deaf": "yes"})  # pc2 has said otherwise
        assert await heard(devices) == [1, 0]
        switch.detach(later[1])
        assert under.features[0].left == [3]
        assert under.port("pc1") is under.port("1") is early
        with pytest.raises(NotFound, match="pc9"):
            under.port("pc9")


class Calls(Feature[object, PortSettings]):
    """Notes how it is called."""

    def __init__(self, switch):
        self.calls = []

    def validate(self, switch, ports):
        self.calls.append("validate")
        if any(said.deaf and said.mute for said in ports.values()):
            raise ConfigError("deaf and mute")

    def settings_changed(self, switch, ports):
        self.calls.append(("settings_changed", sorted(ports)))
        return "pc9" in ports

    def port_up(self, port):
        self.calls.append(("port_up", port.name))

    def port_stages(self, port, settings):
        self.calls.append(("port_stages", port.name))
        return Stages(shaper=Shaper(1e6)) if settings.mute else Stages()

    def port_down(self, number):
        self.calls.append(("port_down", number))


async def test_hooks_are_called_for_what_they_are_named_after(monkeypatch):
    monkeypatch.setattr(managed, "FEATURES", (Calls,))
    async with open_switch() as switch:
        early = switch.attach(FakeDevice(), name="pc1")
        under = FeatureManager(switch)
        switch.attach(FakeDevice(), name="pc2")

        def called():
            said, under.features[0].calls = under.features[0].calls, []
            return said

        assert called() == [
            *("validate", ("settings_changed", [])),
            *(("port_up", "pc1"), ("port_stages", "pc1")),
            *(("port_up", "pc2"), ("port_stages", "pc2")),
        ]
        under.change_port("pc1", {"mute": "yes"})
        assert called() == ["validate", ("settings_changed", ["pc1"]), ("port_stages", "pc1")]
        with pytest.raises(ConfigError, match="deaf and mute"):
            under.change_port("pc1", {"deaf": "yes"})
        assert called() == ["validate"]
        assert not under.settings.of_port("pc1").deaf
        under.change_port("pc9", {"mute": "no"})  # concerns all, says the feature
        assert called()[2:] == [("port_stages", "pc1"), ("port_stages", "pc2")]
        switch.detach(early)
        assert called() == [("port_down", 1)]


async def test_a_shaper_of_a_feature_shapes_the_port_until_settings_take_it_away(monkeypatch):
    monkeypatch.setattr(managed, "FEATURES", (Calls,))
    shaped = []
    monkeypatch.setattr(Port, "shape", lambda port, shaper: shaped.append(shaper is not None))
    async with open_switch() as switch:
        under = FeatureManager(switch)
        switch.attach(FakeDevice(), name="pc1")
        under.change_port("pc1", {"mute": "yes"})
        under.change_port("pc1", {"mute": "no"})
    assert shaped == [False, True, False]


def test_port_settings_are_listed_in_their_order_and_none_is_missing():
    assert tuple(options_of(AllPortSettings)) == settings._ORDER


async def test_wrong_settings_change_nothing():
    async with open_switch() as switch:
        under = FeatureManager(switch, Settings())
        before = under.settings
        with pytest.raises(ConfigError, match=r"port\.pc1: unknown option .*did you mean 'deaf'"):
            under.change_port("pc1", {"deff": "yes"})
        with pytest.raises(ConfigError, match=r"port\.pc1\.deaf = perhaps: must be on or off"):
            under.change_port("pc1", {"deaf": "perhaps"})
        with pytest.raises(ConfigError, match="switch: unknown option"):
            under.change_switch({"nothing": "1"})
        assert under.settings is before


async def test_features_tick_once_a_second(autojump_clock):
    async with open_switch() as switch, trio.open_nursery() as nursery:
        under = FeatureManager(switch)
        nursery.start_soon(under.run)
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()
    assert under.features[0].ticks == 10


def test_settings_are_read_from_a_file_and_wrong_ones_named_with_their_place(tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text('[port.pc1]\ndeaf = true\n[port."*"]\nmute = true\n[serve]\nmtu = 1400\n')
    said = load_settings(path)
    assert said.of_port("pc1") == PortSettings(deaf=True, mute=True)
    assert said.of_port("pc2") == PortSettings(mute=True)
    assert load_settings(None).of_port("pc1") == PortSettings()
    for text, complaint in [
        ("[port.pc1]\ndeaf = 7\n", r"port\.pc1\.deaf = 7"),
        ("[port.pc1]\nloud = true\n", r"port\.pc1: unknown option loud"),
        ("[port]\npc1 = 3\n", "must be a table"),
        ("switch = 3\n", "must be a table"),
        ("[switch]\nloud = 3\n", "switch: unknown option loud"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=complaint):
            load_settings(path)


def test_a_group_of_ports_has_settings_before_those_for_any():
    ports = {"*": {"mute": True, "deaf": True}, "lab": {"mute": False}, "lab-1": {"deaf": False}}
    said = Settings(ports=ports)
    assert said.of_port("lab-1", "lab") == PortSettings(mute=False, deaf=False)
    assert said.of_port("lab-2", "lab") == PortSettings(mute=False, deaf=True)
    assert said.of_port("pc1") == PortSettings(mute=True, deaf=True)
