"""Names on a LAN of real hosts: dig for every type, names in programs, and what a kill leaves."""

import ipaddress
import signal

import pytest

from tests.netns.tools import Lan, ipv4, reach
from vswitch.devices import netlink
from vswitch.lab import Lab, wait_until
from vswitch.lab.host import HOSTS
from vswitch.lab.lan import DEV

CONFIG = """
[names]
records = [
    "www CNAME pc1", "_ssh._tcp SRV 0 5 22 pc1", "info TXT hello", "@ MX 10 pc1",
    "six AAAA fd00::6",
]
[adverts]
enabled = true
prefix = "fd00:77::/64"
[port.pc2]
names_allowed = "example.com"
"""


def dig(host, *arguments, server="10.77.0.1"):
    """The answers, one a line, and the status."""
    said = host.run(["dig", f"@{server}", "+tries=2", "+time=5", *arguments]).stdout
    status = said.partition("status: ")[2].partition(",")[0]
    lines = [line.split(None, 4) for line in said.splitlines() if line and line[0] not in ";"]
    return status, [f"{words[3]} {words[4]}" for words in lines if len(words) == 5]


def address6(lan, name):
    """That the member has given itself in the prefix of the switch."""
    host = lan.members[name]

    def found():
        told = host.call(netlink.addresses, DEV)
        return [each.partition("/")[0] for each in told if each.startswith("fd00:77:")]

    return wait_until(found, f"address of {name} in the prefix")[0]


@pytest.fixture(scope="module")
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        config = lan.switch.directory / "serve.toml"
        config.write_text(CONFIG)
        lan.serve("--config", str(config))
        for name in ("pc1", "pc2"):  # one after the other: the second knows the first at once
            lan.join(name)
            lan.wait_connected(name)
        yield lan
        lan.stop()


@pytest.mark.netns("dig", "ping")
def test_every_type(lan):
    one = lan.members["pc1"]
    mine = ipv4(lan, "pc1")
    six = address6(lan, "pc1")
    reach(lan.members["pc2"], six)  # it is not tentative any more
    backwards6 = f"{ipaddress.ip_address(six).reverse_pointer}."
    backwards = ".".join(reversed(mine.split("."))) + ".in-addr.arpa."
    for name, kind, answer in (
        ("pc1.lan", "A", [f"A {mine}"]),
        ("pc1.lan", "AAAA", [f"AAAA {six}"]),
        ("services.lan", "AAAA", ["AAAA fd00:77::1"]),
        (backwards6, "PTR", ["PTR pc1.lan."]),
        ("six.lan", "AAAA", ["AAAA fd00::6"]),
        ("www.lan", "A", ["CNAME pc1.lan.", f"A {mine}"]),
        ("_ssh._tcp.lan", "SRV", ["SRV 0 5 22 pc1.lan."]),
        ("info.lan", "TXT", ['TXT "hello"']),
        ("lan", "MX", ["MX 10 pc1.lan."]),
        ("lan", "NS", ["NS services.lan."]),
        (backwards, "PTR", ["PTR pc1.lan."]),
    ):
        status, answers = dig(one, name, kind, "+noadditional", "+noauthority")
        assert (status, answers) == ("NOERROR", answer), name
    assert dig(one, "nobody.lan")[0] == "NXDOMAIN"
    assert dig(one, "nobody.lan")[1][0].startswith("SOA services.lan.")
    assert dig(one, "example.com")[0] == "REFUSED"  # nobody is asked, unless the operator says so
    assert dig(lan.members["pc2"], "evil.org")[0] == "NXDOMAIN"
    assert dig(lan.members["pc2"], "example.com")[0] == "REFUSED"
    events = lan.command(lan.switch, "events", "--json").stdout
    assert '"evil.org"' in events
    # Of an address of IPv6 it is told what a host has, and nothing of one that is away.
    lan.members["pc2"].run(["ping", "-c1", "-W5", address6(lan, "pc1")])
    # It is a host like any other.
    assert one.run(["ping", "-c1", "-W5", "10.77.0.1"]).returncode == 0


@pytest.mark.netns
def test_names_in_programs_and_what_a_kill_leaves(lan):
    one, two = lan.members["pc1"], lan.members["pc2"]
    mine = ipv4(lan, "pc1")

    def known(name):
        return two.run(["getent", "hosts", name], check=False).stdout.split()[:1]

    for name in ("pc1", "pc1.lan"):
        wait_until(lambda name=name: known(name) == [mine], f"address of {name}")
    assert two.run(["cat", "/etc/hosts"]).stdout.startswith(HOSTS)
    # A program that takes a name: a server of pc1, asked by pc2.
    server = one.popen(["python3", "-m", "http.server", "8000", "--bind", mine])
    fetch = "import urllib.request as u; print(u.urlopen('http://pc1:8000/', timeout=20).status)"
    wait_until(
        lambda: two.run(["python3", "-c", fetch], check=False).stdout == "200\n", "page of pc1"
    )
    server.terminate()
    server.wait()
    # A kill leaves the block; the next start takes it away first, its end for good.
    lan.programs["pc2"].stop(signal.SIGKILL)
    assert "pc1.lan" in two.run(["cat", "/etc/hosts"]).stdout
    again = lan.join("pc2", "--no-dns")
    lan.wait_connected("pc2")
    assert two.run(["cat", "/etc/hosts"]).stdout == HOSTS
    assert again.stop() == 0
    last = lan.join("pc2")
    wait_until(lambda: "pc1.lan" in two.run(["cat", "/etc/hosts"]).stdout, "names at pc2 again")
    last.stop(signal.SIGKILL)
    lan.command(two, "leave", "pc2")  # after which no start comes
    assert two.run(["cat", "/etc/hosts"]).stdout == HOSTS
    assert not list((lan.state(two) / "members").glob("*.names"))


@pytest.mark.netns("dig", "ping")
def test_beside_the_kernel_of_the_switchs_host():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--local-port", "--dev", DEV)
        lan.join("pc1")
        lan.wait_connected("pc1")
        one = lan.members["pc1"]
        mine = ipv4(lan, "pc1")
        assert one.run(["ping", "-c1", "-W5", "10.77.0.1"]).returncode == 0  # by the kernel
        assert dig(one, "pc1.lan", "+noauthority") == ("NOERROR", [f"A {mine}"])
        assert dig(one, "services.lan", "+noauthority") == ("NOERROR", ["A 10.77.0.1"])
        assert lan.port("services") is None
        lan.stop()
