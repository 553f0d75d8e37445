"""Every setting takes every spelling of its kind, from every source.

The settings are found in the modules of the program, so a new one is covered by itself: the kind is
said by the type of the field, or by its converter, and no class has a converter of its own for a
kind that a file of config has.
"""

from __future__ import annotations

import importlib
import pkgutil

import attrs
import pytest

import vswitch
from vswitch.config import addressing, places, quantities, words
from vswitch.config.quantities import (
    to_connection_rate,
    to_duration,
    to_duration_or_off,
    to_frame_limit,
    to_frame_rate,
    to_mtu,
    to_optional_duration,
    to_optional_mtu,
    to_rate,
)
from vswitch.config.sources import load, options_of, structure, variable_of
from vswitch.config.words import (
    to_bool,
    to_interface,
    to_name,
    to_optional_bool,
    to_optional_interface,
    to_optional_name,
)
from vswitch.devices.tap import TapConfig
from vswitch.errors import ConfigError, VswitchError
from vswitch.features.impair import orders_untrusted
from vswitch.features.settings import PortSettings, Settings, SwitchSettings

REQUIRED = {
    "name": "pc1",
    "listen": "tcp://:80",
    "to": "pc1:80",
}  # of the classes that have an option without a default
# For kinds and places that no other has.
WITH_CONVERTERS_OF_THEIR_OWN = (
    "vswitch.foreign.kinds",
    "vswitch.services.adverts",
    "vswitch.services.terms",
)
KINDS = [each.__name__ for each in (addressing, places, quantities, words)]
BOOLEANS = {"on": True, "yes": True, "true": True, "1": True}
BOOLEANS |= {"off": False, "no": False, "false": False, "0": False}
BOOLEANS |= {text.upper(): value for text, value in BOOLEANS.items()}
BITS = {"10m": 10e6, "10M": 10e6, "10 M": 10e6, "10Mbit/s": 10e6, "10 Mbit/s": 10e6, "10Mbps": 10e6}
BITS |= {"1.5g": 1.5e9, "500K": 500e3, "20000": 20e3, "off": None, "OFF": None}
FRAMES = {"10k": 10e3, "10K": 10e3, "10 k": 10e3, "10k/s": 10e3, "10 kfps": 10e3, "500": 500.0}
FRAMES |= {"1.5k frames/s": 1500.0, "off": None}
DURATIONS = {"30s": 30.0, "10m": 600.0, "24h": 86400.0, "7d": 604800.0, "1.5h": 5400.0}
DURATIONS |= {"10 m": 600.0, "2500ms": 2.5}
NAMES = {"a": "a", "pc-1": "pc-1"}
INTERFACES = {"eth0.10": "eth0.10", "vsw0": "vsw0"}
MTUS = {"576": 576, "1500": 1500, "9000": 9000}
SPELLINGS = {
    to_bool: (BOOLEANS, ("", "2", "perhaps", "o n")),
    to_optional_bool: (BOOLEANS | {"default": None}, ("2", "perhaps")),
    to_rate: (BITS, ("fast", "10kfps", "-1", "0", "2000G", "1e6", "none")),
    to_frame_rate: (FRAMES, ("fast", "10kbit/s", "-1", "0", "2000G")),
    to_frame_limit: (FRAMES | {"0": 0}, ("fast", "10kbit/s", "-1", "1.5", "2G")),
    to_duration: (DURATIONS, ("", "5", "0s", "999ms", "367d", "1w", "1h30m", "-1s", "٣s")),
    to_name: (NAMES, ("", "PC1", "-a", "a" * 64, "a b")),
    to_optional_name: (NAMES | {"": ""}, ("PC1", "-a", "a" * 64)),
    to_interface: (INTERFACES, ("", "..", "a/b", "vsw%d", "a" * 16, "ü")),
    to_optional_interface: (INTERFACES, ("..", "a/b", "a" * 16)),
    to_mtu: (MTUS, ("575", "9001", "1e3", "1_500", "big", "")),
    to_optional_mtu: (MTUS, ("575", "9001", "big")),
}


def classes():
    """Every class with options, of every module."""
    found = set()
    for module in pkgutil.walk_packages(vswitch.__path__, "vswitch."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and attrs.has(value) and options_of(value):
                    found.add(value)
    return sorted(found, key=lambda cls: cls.__name__)


FIELDS = [
    pytest.param(cls, field, id=f"{cls.__name__}.{field.name}")
    for cls in classes()
    for field in attrs.fields(cls)
    if "option" in field.metadata
]
SPELLED = [each for each in FIELDS if each.values[1].converter in SPELLINGS]


def from_all_sources(cls, name, text):
    """What becomes of a text as a flag, a variable, in a file, and as a live setting."""
    needs = {each.name for each in attrs.fields(cls) if each.default is attrs.NOTHING}
    required = {key: value for key, value in REQUIRED.items() if key in needs}
    if name == "valid":
        required["preferred"] = "1s"  # not longer than that
    sources = [lambda: load(cls, required | {name: text}, {})]
    if options_of(cls)[name].at is None:  # else it stands in another table, with others of its kind
        sources.append(lambda: structure(cls, required | {name: text}, "file: table"))
    if text:  # an empty variable counts as unset
        others = {key: value for key, value in required.items() if key != name}
        sources.append(lambda: load(cls, others, {variable_of(name): text}))
    if cls is PortSettings:
        sources.append(lambda: Settings().with_port("pc1", {name: text}).of_port("pc1"))
    if cls is SwitchSettings:
        sources.append(lambda: Settings().with_switch({name: text}).switch)
    for source in sources:
        try:
            yield getattr(source(), name)
        except ConfigError:
            yield ConfigError


@pytest.mark.parametrize(("cls", "field"), SPELLED)
def test_every_setting_takes_every_spelling_from_every_source(cls, field):
    right, wrong = SPELLINGS[field.converter]
    for text, value in right.items():
        for got in from_all_sources(cls, field.name, text):
            assert (got, type(got) is bool) == (value, type(value) is bool), text
    for text in wrong:
        assert set(from_all_sources(cls, field.name, text)) == {ConfigError}, text


@pytest.mark.parametrize(("cls", "field"), FIELDS)
def test_every_setting_has_the_converter_of_its_kind(cls, field):
    kind, name = str(field.type), field.name
    if kind in ("bool", "bool | None"):
        assert field.converter in (to_bool, to_optional_bool)
    own = cls.__module__ in WITH_CONVERTERS_OF_THEIR_OWN
    if kind in ("float", "float | None") and not own:
        durations = (to_duration, to_duration_or_off, to_optional_duration)
        assert field.converter in (*durations, to_rate, to_frame_rate, to_connection_rate)
    if name == "mtu":
        assert field.converter in (to_mtu, to_optional_mtu)
    if name == "name":
        assert field.converter in (to_name, to_optional_name)
    if field.metadata["option"].metavar == "IFNAME":
        assert field.converter in (to_interface, to_optional_interface)
    if not own:
        assert field.converter.__module__ in KINDS


def test_settings_of_every_kind_are_found():
    assert {each.values[1].converter for each in SPELLED} == set(SPELLINGS)


@pytest.mark.parametrize("value", [True, 1])
def test_a_file_can_have_booleans_without_quotes(value):
    assert Settings().with_port("pc1", {"sticky": value}).of_port("pc1").sticky is True


@pytest.mark.parametrize("text", [text for text, rate in BITS.items() if rate])
def test_impair_takes_every_spelling_of_a_rate(text):
    assert orders_untrusted({"rate": text}).rate == BITS[text]


@pytest.mark.parametrize("text", DURATIONS)
def test_impair_takes_every_spelling_of_a_duration(text):
    assert orders_untrusted({"loss": "1%", "for": text}).seconds == DURATIONS[text]


def test_impair_takes_no_limit_as_no_order():
    assert orders_untrusted({"loss": "1%", "rate": "off"}).rate is None
    with pytest.raises(ConfigError, match="say what"):
        orders_untrusted({"rate": "off"})


def test_a_tap_takes_what_an_option_takes():
    for name in INTERFACES:
        for mtu in MTUS.values():
            assert TapConfig(name, mtu=mtu).mtu == mtu
    for name in SPELLINGS[to_interface][1]:
        with pytest.raises(VswitchError, match="name"):
            TapConfig(name)
    for mtu in (575, 9001):
        with pytest.raises(VswitchError, match="576 to 9000"):
            TapConfig("vsw0", mtu=mtu)
