"""A LAN that moves from an old switch to ours step by step: both hang in one bridge meanwhile."""

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from tests.netns.test_lan_bridge import underlay_address
from tests.netns.tools import reach
from vswitch.devices import netlink
from vswitch.lab.lan import DEV

HERE = Path(__file__).parent
PORT = "9999"
ADDRESSES = {"pc1": "10.99.0.1", "gate": "10.99.0.2", "old1": "10.99.0.3", "old2": "10.99.0.4"}


def start(host, program, *arguments):
    """A program of somebody else's, once it says that it is ready."""
    process = host.popen(
        [sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"


@pytest.mark.netns("ping", "ip")
def test_an_old_switch_in_the_same_bridge(empty_lan):
    lan = empty_lan
    lan.serve()
    server, gate = lan.host("server"), lan.host("gate")
    start(server, "old_server.py", PORT)
    where = underlay_address(server)
    for name in ("old1", "old2"):
        start(lan.host(name), "foreign_client.py", "udp", where, PORT, DEV, f"{ADDRESSES[name]}/24")
    gate.call(netlink.create_bridge, "br0")
    gate.run(["ip", "address", "add", f"{ADDRESSES['gate']}/24", "dev", "br0"])
    gate.run(["ip", "link", "set", "br0", "up"])
    lan.programs["via"] = lan._start(
        gate, "join", "--via", f"udp://{where}:{PORT}", "--dev", "vsw1", "--bridge", "br0"
    )
    lan.join("gate", "--bridge", "br0")
    lan.join("pc1", "--address", "none")
    lan.wait_connected("gate", "pc1")
    lan.members["pc1"].call(netlink.add_address, DEV, f"{ADDRESSES['pc1']}/24")
    for source, target in permutations(ADDRESSES, 2):
        reach(lan.members[source], ADDRESSES[target])
    for source, target in permutations(ADDRESSES, 2):
        host = lan.members[source]
        host.run(["ip", "neighbour", "flush", "all"])  # who has it is asked of all
        done = host.run(["ping", "-c3", "-i0.1", "-W5", ADDRESSES[target]], check=False)
        assert ", 0% packet loss" in done.stdout, (source, target)
    joins = json.loads(lan.command(gate, "status", "--json").stdout)["joins"]
    assert sum(each["drops"].get("echo", 0) for each in joins) > 0
    events = lan.command(lan.switch, "events", "--json").stdout
    assert "mac-moved" not in events
    assert "mac-frozen" not in events
