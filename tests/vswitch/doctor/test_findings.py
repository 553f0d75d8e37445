"""Each finding of the table follows from facts, and from healthy facts none does."""

import pytest
from attrs import evolve

from transport.path.keepalive import KEEPALIVE, KEEPALIVE_JITTER
from vswitch.doctor import findings
from vswitch.doctor.findings import (
    ConfigurationFacts,
    Facts,
    FileFacts,
    InstalledFacts,
    InterfaceFacts,
    PathFacts,
    RunningFacts,
    TapFacts,
    behind_nat,
    judge,
)
from vswitch.doctor.table import TABLE, Severity

PATH = PathFacts(
    place="switch.example.org:7450",
    udp_ms=12.0,
    https_tried=True,
    https_ms=40.0,
    datagram_size=1472,
    link_mtu=1500,
    skew=0.4,
)
RUNNING = RunningFacts(versions=[("the switch", "1.0")])
INSTALLED = InstalledFacts(version="1.0", others=[("/usr/bin/vswitch", "1.0")], optimised=True)
TAP = TapFacts()
DEV = InterfaceFacts(
    name="vsw0",
    network="10.77.0.2/24",
    networks=["192.0.2.0/24", "0.0.0.0/0", "10.0.0.0/8", "fd00::/64"],
    routes=True,
    rp_filter=2,
)
FILES = FileFacts(path="/var/lib/vswitch", free=1 << 30)
HEALTHY = Facts(
    paths=[PATH],
    running=RUNNING,
    configuration=ConfigurationFacts(),
    installed=INSTALLED,
    tap=TAP,
    interfaces=[DEV],
    firewall=[],
    files=FILES,
)
DEAF = {"udp_ms": None, "datagram_size": None, "silent": "no answer from switch.example.org"}


def path(**changes):
    return evolve(HEALTHY, paths=[evolve(PATH, **changes)])


def running(**changes):
    return evolve(HEALTHY, running=evolve(RUNNING, **changes))


def dev(**changes):
    return evolve(HEALTHY, interfaces=[evolve(DEV, **changes)])


def tap(**changes):
    return evolve(HEALTHY, tap=evolve(TAP, **changes))


def installed(**changes):
    return evolve(HEALTHY, installed=evolve(INSTALLED, **changes))


def files(**changes):
    return evolve(HEALTHY, files=evolve(FILES, **changes))


WRONG = {
    "name-unresolved": path(unresolved="cannot resolve x: Name or service not known"),
    "unreachable": path(unreachable="cannot reach x: no route", udp_ms=None, datagram_size=None),
    "port-closed": path(closed="192.0.2.1:7450: ICMP says so"),
    "no-answer": path(**DEAF, https_tried=False, https_ms=None),
    "not-a-member": path(**DEAF, https_ms=None, key_shown="192.0.2.1:7450", key="a-b-c"),
    "not-told": path(keyless=True, udp_ms=None, datagram_size=None),
    "udp-blocked": path(**DEAF),
    "https-unreachable": path(https_ms=None, https_failed="connection refused"),
    "wrong-key": path(https_ms=None, https_failed="with status 404", https_answered=True),
    "refused": path(refused="this member was revoked"),
    "no-common-handshake": path(no_handshake="the switch requires post-quantum handshakes"),
    "clock-wrong": path(skew=-90.0),
    "mtu-black-hole": path(datagram_size=1372),
    "mtu-low": path(datagram_size=1200, link_mtu=1228),
    "nat-forgets": path(outlived=8.0, forgotten=16.0),
    "not-connected": running(silent=[("pc1", "no answer")]),
    "unit-failed": evolve(HEALTHY, units=[("vswitch-serve.service", "exit code 2")]),
    "hung-process": running(hung=[("pc1.sock", "does not answer within 5 s")]),
    "port-taken": running(port_taken="UDP port 7450: Address already in use"),
    "fault": running(faults=[("dhcp", "KeyError, reference=1a2b")]),
    "other-version": running(versions=[("the switch", "0.9")]),
    "switch-version": running(switches=[("pc1", "vswitch 1.0", "vswitch 0.9")]),
    "several-installed": installed(others=[("/usr/bin/vswitch", "0.9")]),
    "old-dependency": installed(wrong=[("trio", "0.2 is installed; 0.28 or later is needed")]),
    "slow-python": installed(optimised=False),
    "no-tun": tap(missing="/dev/net/tun: No such file or directory"),
    "tun-denied": tap(denied="/dev/net/tun: Operation not permitted"),
    "no-net-admin": tap(net_admin=False),
    "no-user-namespaces": tap(net_admin=False, user_namespaces="user.max_user_namespaces is 0"),
    "subnet-collision": dev(networks=["10.77.0.0/16"]),
    "interface-changed": running(changed=[("vsw0", "mtu is 1400")]),
    "managed-interface": dev(managers=["NetworkManager"]),
    "no-offload": dev(offload=False),
    "rp-filter": dev(rp_filter=1),
    "br-netfilter": dev(
        bridge_filters=[("net.bridge.bridge-nf-call-iptables", "ip filter FORWARD drops")]
    ),
    "firewall-drops": evolve(HEALTHY, firewall=["a rule in inet t c (input) says drop"]),
    "config-wrong": evolve(HEALTHY, configuration=ConfigurationFacts(config="x.toml:1: no")),
    "saved-wrong": evolve(HEALTHY, configuration=ConfigurationFacts(saved="saved.toml:1: no")),
    "state-owner": files(unusable="state directory /x belongs to another user"),
    "key-exposed": files(exposed=["/var/lib/vswitch/server.key"]),
    "disk-full": files(free=1 << 20),
    "probe-failed": evolve(HEALTHY, failed={"tap": "no answer within 20 s"}),
}


def test_nothing_is_found_in_healthy_facts_or_in_none():
    assert judge(HEALTHY) == []
    assert judge(Facts()) == []


def test_every_finding_of_the_table_is_provoked_here():
    assert WRONG.keys() == TABLE.keys()


@pytest.mark.parametrize("id", TABLE)
def test_a_finding_follows_from_its_facts_and_says_what_to_do(id):
    found = judge(WRONG[id])
    beside = {"no-net-admin"} if id == "no-user-namespaces" else set()
    assert {each.id for each in found} - beside == {id}
    (one,) = (each for each in found if each.id == id)
    assert one.seen
    assert (one.title, one.remedy) == (TABLE[id].title, TABLE[id].remedy)


def test_the_silence_of_a_place_is_told_apart():
    deaf = {**DEAF, "https_tried": False, "https_ms": None, "key": "a-b-c"}
    (one,) = judge(path(**deaf))
    assert "to know the key a-b-c" in one.seen
    (one,) = judge(path(**deaf, others_closed="192.0.2.1:7450"))
    assert "192.0.2.1:7450 is not closed as other ports" in one.seen
    assert [each.id for each in judge(path(**deaf, closed="ICMP says so"))] == ["port-closed"]


def test_a_nat_that_remembers_for_longer_than_a_keepalive_is_no_finding():
    assert findings.KEEPALIVE == KEEPALIVE * (1 + KEEPALIVE_JITTER)
    assert judge(path(outlived=findings.KEEPALIVE - 2, forgotten=findings.KEEPALIVE)) == []
    assert judge(path(outlived=45.0)) == []


def test_problems_come_first():
    facts = evolve(installed(optimised=False), paths=[evolve(PATH, skew=90.0, refused="revoked")])
    order = [each.severity for each in judge(facts)]
    assert order == [Severity.PROBLEM, Severity.WARNING, Severity.NOTE]


def test_a_nat_is_seen_by_the_address_that_the_switch_sees():
    own = ["192.0.2.11", "2001:db8::11"]
    assert behind_nat(PathFacts(place="s", seen="203.0.113.9:41022", own=own))
    assert not behind_nat(PathFacts(place="s", seen="192.0.2.11:41022", own=own))
    assert not behind_nat(PathFacts(place="s", seen="[2001:db8::11]:41022", own=own))
    assert behind_nat(PathFacts(place="s", own=own)) is None
    assert behind_nat(PathFacts(place="s", seen="192.0.2.11:41022")) is None


def test_an_ipv6_path_has_longer_headers():
    assert judge(path(ip_version=6, datagram_size=1452)) == []


def test_the_limits_are_limits():
    assert judge(path(skew=findings.SKEW_LIMIT)) == []
    assert judge(files(free=findings.FREE_BYTES)) == []
    assert judge(path(datagram_size=1472 - findings.MTU_SLACK)) == []
