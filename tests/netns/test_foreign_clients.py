"""Clients that somebody else has written, in our foreign ports; and the switch's own host."""

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from tests.netns.tools import iperf3, ipv4, reach
from vswitch.devices import netlink
from vswitch.lab.lan import DEV, SWITCH_ADDRESS

CLIENT = Path(__file__).with_name("foreign_client.py")
KINDS = {"udp": 5555, "tcp": 5556, "qemu": 5557, "kcp": 5558, "kcp2": 5558}
ADDRESSES = {kind: f"10.77.0.{201 + number}" for number, kind in enumerate(KINDS)}
SPOKEN = {kind: kind for kind in KINDS} | {"qemu": "qemu-stream", "kcp2": "kcp"}
SWITCH = "10.77.0.1"  # its own host, by --local-port


@pytest.fixture(scope="module")
def clients(empty_lan):
    lan = empty_lan
    path = lan.switch.directory / "vswitch.toml"
    path.write_text(
        "".join(
            f'[[foreign]]\nkind = "{SPOKEN[kind]}"\nlisten = "0.0.0.0:{port}"\n'
            for kind, port in KINDS.items()
            if kind != "kcp2"  # another client of the same listener
        )
    )
    lan.serve("--config", str(path), "--local-port", "--dev", "vsw9")
    for kind, port in KINDS.items():
        host = lan.host(kind)
        arguments = [kind.rstrip("2"), SWITCH_ADDRESS, str(port), DEV, ADDRESSES[kind] + "/24"]
        client = host.popen(
            [sys.executable, str(CLIENT), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout.readline() == "ready\n"
    lan.join("pc1")
    lan.wait_connected("pc1")
    return lan


@pytest.mark.netns("ping", "ip")
def test_all_ping_all(clients):
    hosts = {kind: clients.members[kind] for kind in KINDS} | {
        "pc1": clients.members["pc1"],
        "switch": clients.switch,
    }
    where = ADDRESSES | {
        "pc1": ipv4(clients, "pc1"),
        "switch": SWITCH,
    }
    for source, target in permutations(hosts, 2):
        reach(hosts[source], where[target])
        reach(hosts[source], where[target], "-M", "do", "-s", "1472")
    assert f"{SWITCH}/24" in clients.switch.call(netlink.addresses, "vsw9")


@pytest.mark.netns("iperf3", "ip")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [[], ["-R"]], ids=["there", "back"])
def test_iperf3_crosses_both_ways(clients, kind, reverse):
    pc1, address = clients.members["pc1"], ADDRESSES[kind]
    reach(pc1, address)
    received = iperf3(pc1, clients.members[kind], address, "-t2", *reverse)["sum_received"]
    print(f"{kind} {reverse}: {received['bits_per_second'] / 1e6:.0f} Mbit/s")
    assert received["bytes"] > 1_000_000
