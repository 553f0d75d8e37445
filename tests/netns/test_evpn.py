"""Three switches that are one LAN, with FRR's BGP EVPN instead of a list of the others: commands
and file of docs/recipes.md.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.netns.test_lan_bridge import (
    SITES,
    join_sites,
    one_lan,
    underlay_address,
)
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, PORT

ZEBRA, BGPD = "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd"  # where Debian has them, in no PATH
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text()
CONVERGED = 60  # seconds; BGP retries, and three daemons start on a loaded machine


def block(language):
    """What docs/recipes.md gives for several switches, in that language."""
    (part,) = re.findall(r"^## Several switches as one LAN\n(.*?)^## ", PAGE, re.DOTALL | re.M)
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", part, re.DOTALL | re.M)
    return found


def bgp(own, others):
    """The file for FRR, with timers for a test."""
    text = block("frr").replace("LOCAL", own)
    for number, other in enumerate(others, 1):
        text = text.replace(f"OTHER{number}", other)
    return re.sub(
        r"^ (neighbor \S+) remote-as .*$", r"\g<0>\n \1 timers connect 1", text, flags=re.M
    )


def serve_as_told(lan, site, host):
    """Run the commands for the host of a switch."""
    *links, serve = block("sh").replace("LOCAL", underlay_address(host)).splitlines()
    for line in links:
        host.run(line.split())
    host.run(["ethtool", "-K", "vx0", "tx", "off", "tso", "off", "gso", "off"])  # on a veth
    program, command, *options = serve.split()
    assert (program, command) == ("vswitch", "serve")
    place = "--listen", f":{PORT}", "--public", underlay_address(host)
    lan.programs[site] = lan._start(host, command, *place, *options, "--dev", "vsw9")


@pytest.fixture
def start_frr():
    """zebra and bgpd in a host, as plain processes with all their files in one directory.

    They become the user frr, who reaches no tmp_path; that also undoes "dies with its parent",
    so they get a terminal, of which the end ends them. What was started is then a parent of the
    daemon: its own process is the one in the file.
    """
    if os.geteuid() != 0:
        pytest.skip("FRR becomes the user frr: needs root")
    started = []
    with tempfile.TemporaryDirectory(prefix="vswitch-frr-") as directory:
        shutil.chown(directory, "frr", "frr")

        def start(host, config):
            place = Path(directory) / host.name
            place.mkdir()
            (place / "zebra.conf").write_text("")
            (place / "bgpd.conf").write_text(config)
            for path in (place, *place.iterdir()):
                shutil.chown(path, "frr", "frr")
            for path in (ZEBRA, BGPD):
                name = Path(path).name
                argv = [
                    *(path, "--terminal", "--config_file", f"{place}/{name}.conf"),
                    *("--pid_file", f"{place}/{name}.pid", "--socket", f"{place}/zserv"),
                    *("--vty_socket", str(place), "--vty_port", "0"),
                    *("--log", f"file:{place}/{name}.log"),
                ]
                with (place / f"{name}.out").open("wb") as output:
                    started.append(
                        host.popen(argv, stdin=subprocess.PIPE, stdout=output, stderr=output)
                    )
                wait_until((place / f"{name}.vty").exists, f"socket of {name} in {host.name}")
            return [place / f"{Path(path).name}.pid" for path in (ZEBRA, BGPD)]

        yield start
        for process in started:
            process.stdin.close()
        for process in started:
            process.wait(CONVERGED)


def entries(host):
    """The kernel's forwarding entries of the VXLAN interface: pairs of MAC address and VTEP."""
    shown = host.run(["bridge", "fdb", "show", "dev", "vx0"]).stdout.splitlines()
    words = [line.split() for line in shown]
    return {(word[0], word[word.index("dst") + 1]) for word in words if "dst" in word}


def flooded_to(host):
    return {address for mac, address in entries(host) if mac == "00:00:00:00:00:00"}


@pytest.mark.netns("ping", "tcpdump", "ip", "bridge", "ethtool", ZEBRA, BGPD)
def test_evpn_joins_three_switches_and_one_may_die(empty_lan, start_frr):
    lan = empty_lan
    switches = {site: lan.host(site) for site in SITES}
    addresses = {site: underlay_address(host) for site, host in switches.items()}
    pid_files = {}
    for site, host in switches.items():
        serve_as_told(lan, site, host)
        others = [address for other, address in addresses.items() if other != site]
        pid_files[site] = start_frr(host, bgp(addresses[site], others))
    for site, host in switches.items():
        wait_until(
            lambda h=host, s=site: flooded_to(h) == set(addresses.values()) - {addresses[s]},
            f"entries for the others in {site}",
            timeout=CONVERGED,
        )
    members, where = join_sites(lan, switches)
    one_lan(members, where)

    # The stations of the others are known, each at its switch: nothing of theirs is flooded.
    macs = {name: host.call(netlink.find_link, DEV).mac for name, host in members.items()}
    for site, host in switches.items():
        wanted = {(mac, addresses[n[:-1]]) for n, mac in macs.items() if n[:-1] != site}
        wait_until(lambda h=host, w=wanted: w <= entries(h), f"stations in {site}")

    dead = SITES[-1]
    for pid_file in pid_files[dead]:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    lan.programs[dead].process.kill()
    lan.programs[dead].process.wait(20)
    left = {name: host for name, host in members.items() if not name.startswith(dead)}
    one_lan(left, where)
    for site in SITES[:-1]:
        wait_until(
            lambda h=switches[site]: addresses[dead] not in {vtep for _, vtep in entries(h)},
            f"the end of {dead} in {site}",
            timeout=CONVERGED,
        )
