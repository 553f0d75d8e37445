"""Settings reach the features, and features the ports, whichever comes first."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.config.converters import to_bool
from vswitch.config.options import option
from vswitch.errors import ConfigError, NotFound
from vswitch.features import manager as managed
from vswitch.features import settings
from vswitch.features.base import Feature, Stages
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, load_settings
from vswitch.switch.counters import DropReason
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


async def test_settings_from_the_file_and_live():
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


async def test_what_is_wrong_changes_nothing():
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


async def test_it_ticks(autojump_clock):
    async with open_switch() as switch, trio.open_nursery() as nursery:
        under = FeatureManager(switch)
        nursery.start_soon(under.run)
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()
    assert under.features[0].ticks == 10


def test_a_file(tmp_path):
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
