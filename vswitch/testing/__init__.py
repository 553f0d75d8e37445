"""Helpers for tests of programs that use the switch, and of new devices. Nothing here is a mock.

`Lan` is a network in this process; `FakeDevice` and `fake_channel_pair` stand in for a TAP
interface and a session, `FakeInterface` for the host of a member; `check_device` is what every
device has to pass; the rest builds frames.
"""

from vswitch.frames.build import (
    arp_reply,
    arp_request,
    checksum,
    ethernet,
    icmp_echo,
    vlan_tagged,
)
from vswitch.testing.channels import FakeChannel, fake_channel_pair
from vswitch.testing.conformance import check_device
from vswitch.testing.devices import DevicePair, DevicePeer, FakeDevice
from vswitch.testing.interface import FakeInterface
from vswitch.testing.lan import Host, Lan, open_lan

__all__ = [
    "DevicePair",
    "DevicePeer",
    "FakeChannel",
    "FakeDevice",
    "FakeInterface",
    "Host",
    "Lan",
    "arp_reply",
    "arp_request",
    "check_device",
    "checksum",
    "ethernet",
    "fake_channel_pair",
    "icmp_echo",
    "open_lan",
    "vlan_tagged",
]
