"""A real LAN whose member is far away: behind an emulated wire with a NAT in it."""

import re

import pytest

from tests.netns.tools import Lan, ipv4
from vswitch.lab import Lab, NatSpec, PathSpec, WireSpec, wait_until

pytestmark = pytest.mark.netns("ping")

FAR = WireSpec(
    forward=PathSpec(rate=20e6, delay=0.02), back=PathSpec(rate=50e6, delay=0.02), nat=NatSpec()
)


@pytest.fixture(scope="module")
def far_lan():
    with Lab() as lab:
        lan = Lan(lab, paths={"pc1": FAR})
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        yield lan
        lan.stop()


def trips(lan, count):
    """Round trips from pc1 to pc2 on the LAN, in seconds."""
    address = ipv4(lan, "pc2")
    argv = ["ping", "-n", "-i", "0.1", "-c", str(count), "-W", "10", address]
    out = lan.members["pc1"].run(argv, check=False).stdout
    return [float(each) / 1000 for each in re.findall(r"time=([\d.]+) ms", out)]


def test_the_lan_is_as_far_as_the_wire_is_long(far_lan):
    found = trips(far_lan, 5)
    assert len(found) == 5
    assert min(found) >= 0.04
    assert far_lan.wires["pc1"].missed() == 0


def test_the_switch_sees_the_port_of_the_nat_and_follows_it(far_lan):
    wire = far_lan.wires["pc1"]
    wait_until(lambda: len(trips(far_lan, 1)) == 1, "answer")
    before = wire.statistics().nat_ports
    wire.rebind()
    assert len(trips(far_lan, 20)) == 20
    after = wire.statistics()
    assert after.nat.rebindings == 1
    assert len(after.nat_ports) == 1
    assert after.nat_ports != before


def test_a_cut_wire_is_a_cut_lan_and_heals(far_lan):
    wire = far_lan.wires["pc1"]
    wire.set_up(False)
    argv = ["ping", "-n", "-c", "1", "-W", "1", "192.0.2.1"]
    assert far_lan.members["pc1"].run(argv, check=False).returncode != 0
    wire.set_up(True)
    wait_until(lambda: trips(far_lan, 1), "answer over the LAN", timeout=60)
