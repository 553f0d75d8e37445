"""A switch that cannot be reached, and a member that says why: no route, a firewall, ICMP."""

import pytest

from tests.netns.tools import Lan
from vswitch.errors import ExitCode
from vswitch.lab import Lab
from vswitch.lab.lan import SWITCH_ADDRESS, UNDERLAY

SIX = "2001:db8::1"
REJECT = "chain c {{\ntype filter hook {} priority 0;\nudp dport 7450 reject {}\n}}"


def fails(lan, *options):
    """Exit code and last words of a member that tries once."""
    program = lan.join("pc1", "--once", *options)
    code = program.process.wait(60)
    return code, program.tail().splitlines()[-1]


def reject(host, hook, how=""):
    host.run(["nft", "-f", "-"], input=f"table inet t {{\n{REJECT.format(hook, how)}\n}}")


@pytest.fixture
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        lan.host("pc1")
        yield lan


@pytest.mark.netns("ip")
def test_without_a_route_that_is_what_is_said(lan):
    lan.members["pc1"].run(["ip", "-4", "addr", "flush", "dev", UNDERLAY])
    code, said = fails(lan)
    assert code == ExitCode.NOT_REACHABLE
    assert said.endswith(f"cannot reach {SWITCH_ADDRESS}:7450: no route to {SWITCH_ADDRESS}")


@pytest.mark.netns("ip")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unreachable", f"no route to {SWITCH_ADDRESS}"),
        ("prohibit", f"a local route or firewall rejects what goes to {SWITCH_ADDRESS}"),
    ],
)
def test_a_route_that_forbids_it_is_named(lan, kind, reason):
    lan.members["pc1"].run(["ip", "route", "add", kind, SWITCH_ADDRESS])
    code, said = fails(lan)
    assert code == ExitCode.NOT_REACHABLE
    assert said.endswith(f": {reason}")


@pytest.mark.netns("nft")
@pytest.mark.parametrize("verdict", ["reject", "drop"])
def test_a_firewall_of_this_host_is_named(lan, verdict):
    rule = f"chain c {{ type filter hook output priority 0; udp dport 7450 {verdict}\n}}\n"
    lan.members["pc1"].run(["nft", "-f", "-"], input=f"table inet t {{ {rule} }}")
    code, said = fails(lan)
    assert code == ExitCode.NOT_REACHABLE
    assert said.endswith(f"a local firewall rejects what goes to {SWITCH_ADDRESS}")


@pytest.mark.netns("nft")
def test_whoever_rejects_it_is_named(lan):
    reject(lan.switch, "input", "with icmpx type admin-prohibited")
    code, said = fails(lan)
    assert code == ExitCode.TIMEOUT
    assert said.endswith(f"refused by {SWITCH_ADDRESS}: ICMP administratively prohibited")


@pytest.mark.netns("ip")
def test_a_switch_that_does_not_run_is_told_from_one_that_is_away(lan):
    invite = lan.invite("pc1")
    lan.programs["switch"].stop()
    program = lan.join("pc1", "--once", invite=invite)
    assert program.process.wait(60) == ExitCode.TIMEOUT
    assert f"refused by {SWITCH_ADDRESS}: ICMP port unreachable" in program.tail()


@pytest.mark.netns("ip", "nft")
def test_an_address_that_is_rejected_keeps_nobody_from_the_other(lan):
    host = lan.members["pc1"]
    lan.switch.run(["ip", "addr", "add", f"{SIX}/64", "dev", UNDERLAY, "nodad"])
    host.run(["ip", "addr", "add", "2001:db8::11/64", "dev", UNDERLAY, "nodad"])
    host.hosts_file.write_text(f"{SIX} s.example\n{SWITCH_ADDRESS} s.example\n")
    rule = "chain c { type filter hook input priority 0; ip6 nexthdr udp reject\n}\n"
    lan.switch.run(["nft", "-f", "-"], input=f"table ip6 t {{ {rule} }}")
    lan.join("pc1", invite=lan.invite("pc1", "--public", "s.example"))
    lan.wait_connected("pc1")
    assert lan.port("pc1")["via"].startswith("udp:192.0.2.")
