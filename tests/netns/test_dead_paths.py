"""A path to the switch that dies while another one works is left in seconds, by the session."""

import re
import time
from itertools import pairwise

import pytest

from tests.netns.tools import Lan, ipv4, joined, reach
from vswitch.devices import netlink
from vswitch.lab import Lab, wait_until
from vswitch.lab.job import WireSpec
from vswitch.lab.lan import SWITCH_ADDRESS, UNDERLAY
from vswitch.lab.nat import NatSpec

NAME = "switch.example"
SIX = "2001:db8::1"
ELSEWHERE = "192.0.2.9"


def names(host, *addresses):
    """What the name of the switch is known for on a host."""
    host.hosts_file.write_text("".join(f"{each} {NAME}\n" for each in addresses))


@pytest.fixture
def lan():
    """A switch of both families, a member that has come to it by IPv6, and one to talk to."""
    with Lab() as lab:
        lan = Lan(lab)
        lan.switch.run(["ip", "addr", "add", f"{SIX}/64", "dev", UNDERLAY, "nodad"])
        lan.serve()
        host = lan.host("pc1")
        host.run(["ip", "addr", "add", "2001:db8::11/64", "dev", UNDERLAY, "nodad"])
        names(host, SIX, SWITCH_ADDRESS)
        lan.join("pc1", invite=lan.invite("pc1", "--public", NAME))
        lan.join("pc2")
        lan.wait_connected("pc1", "pc2")
        assert SIX.partition("::")[0] in lan.port("pc1")["via"]
        reach(host, ipv4(lan, "pc2"))
        yield lan
        lan.stop()


def pause(lan, change):
    """Seconds without an answer, at most, of a ping of pc1 to pc2 while `change` is done."""
    host, there = lan.members["pc1"], ipv4(lan, "pc2")
    log = host.directory / f"ping-{time.monotonic_ns()}.txt"
    since = lan.port("pc1")["since"]
    with log.open("wb") as output:
        process = host.popen(["ping", "-D", "-i0.1", "-w60", there], stdout=output)
        wait_until(lambda: log.read_text().count("bytes from") > 20, "answers", timeout=30)
        changed = time.time()
        change()

        def stamps():
            return [
                float(each) for each in re.findall(r"\[([\d.]+)\].*bytes from", log.read_text())
            ]

        wait_until(lambda: stamps()[-1] > changed + 1, "answers after it", timeout=50)
        time.sleep(1)
        process.terminate()
        process.wait(10)
    times = stamps()
    assert lan.port("pc1")["since"] == since  # the session is the same
    return max(after - before for before, after in pairwise(times))


def dropped(lan, what):
    """Let the underlay swallow these frames, and nobody hears of it."""
    chain = f"chain f {{\ntype filter hook forward priority 0;\n{what} drop\n}}"
    rules = f"table bridge t {{\n{chain}\n}}"
    lan.underlay.run(["nft", "-f", "-"], input=rules)


@pytest.mark.netns("ip", "ping", "nft")
def test_a_family_that_is_dropped_on_the_way_is_left(lan):
    assert pause(lan, lambda: dropped(lan, "ether type ip6")) < 10
    assert lan.port("pc1")["via"].startswith("udp:192.0.2.")


@pytest.mark.netns("ip", "ping", "nft")
@pytest.mark.parametrize("way", ["saddr", "daddr"])
def test_a_family_that_is_dropped_in_one_direction_is_left(lan, way):
    """The other end is heard, and answers nothing that the member sends; or the other way round."""
    other = lan.members["pc2"].popen(["ping", "-i0.2", "-w60", ipv4(lan, "pc1")])
    assert pause(lan, lambda: dropped(lan, f"ip6 {way} 2001:db8::11 meta l4proto udp")) < 10
    assert lan.port("pc1")["via"].startswith("udp:192.0.2.")
    other.terminate()
    other.wait(10)


@pytest.mark.netns("ip", "ping", "nft")
def test_the_status_says_that_the_switch_is_silent_while_it_is(lan):
    host, there = lan.members["pc1"], ipv4(lan, "pc2")
    dropped(lan, "ether type { ip, ip6 }")
    ping = host.popen(["ping", "-i0.5", "-w20", there])
    wait_until(lambda: joined(lan, "pc1")["state"] == "silent", "silence in the status")
    lan.underlay.run(["nft", "flush", "ruleset"])
    wait_until(lambda: joined(lan, "pc1")["state"] == "up", "an answer")
    ping.terminate()
    ping.wait(10)


@pytest.mark.netns("ip", "ping")
def test_a_member_that_comes_to_a_network_of_ipv4_alone_is_back_at_once(lan):
    host = lan.members["pc1"]
    assert pause(lan, lambda: host.run(["ip", "-6", "addr", "flush", "dev", UNDERLAY])) < 5


@pytest.mark.netns("ip", "ping")
def test_a_switch_that_moves_with_its_name_is_found(lan):
    def move():
        lan.switch.run(["ip", "-6", "addr", "flush", "dev", UNDERLAY, "scope", "global"])
        lan.switch.call(netlink.add_address, UNDERLAY, f"{ELSEWHERE}/24")
        lan.switch.call(netlink.remove_address, UNDERLAY, f"{SWITCH_ADDRESS}/24")
        names(lan.members["pc1"], ELSEWHERE)
        # pc2 knows the switch by the old address alone, which it keeps as well.
        lan.switch.call(netlink.add_address, UNDERLAY, f"{SWITCH_ADDRESS}/24")

    assert pause(lan, move) < 10


@pytest.mark.netns("ip", "ping")
def test_a_member_that_changes_to_the_other_family_and_back_is_back_at_once(lan):
    host = lan.members["pc1"]
    assert pause(lan, lambda: host.run(["ip", "-6", "addr", "flush", "dev", UNDERLAY])) < 5

    def back():
        host.run(["ip", "-4", "addr", "flush", "dev", UNDERLAY])
        host.run(["ip", "addr", "add", "2001:db8::12/64", "dev", UNDERLAY, "nodad"])

    assert pause(lan, back) < 5
    assert "2001:db8" in lan.port("pc1")["via"]


@pytest.mark.netns("ip", "ping")
def test_a_member_without_any_address_is_back_with_the_next_one(lan):
    host = lan.members["pc1"]

    def away():
        host.run(["ip", "addr", "flush", "dev", UNDERLAY])
        wait_until(lambda: joined(lan, "pc1")["state"] == "silent", "silence in the status")
        host.run(["ip", "addr", "add", "192.0.2.77/24", "dev", UNDERLAY])
        away.back = time.time()

    gap = pause(lan, away)
    assert gap < 10 + time.time() - away.back
    assert "192.0.2.77" in lan.port("pc1")["via"]


@pytest.mark.netns("ip", "ping", "nft")
def test_of_two_addresses_of_a_name_the_one_that_lives_is_taken_and_kept(lan):
    lan.switch.call(netlink.add_address, UNDERLAY, f"{ELSEWHERE}/24")
    names(lan.members["pc1"], "192.0.2.250", SIX, ELSEWHERE, SWITCH_ADDRESS)

    def without(address):
        both = f"{{ 192.0.2.11, {address} }}"  # pc1 and the switch
        dropped(lan, f"ether type ip6 drop\nip saddr {both} ip daddr {both}")

    assert pause(lan, lambda: without(SWITCH_ADDRESS)) < 10
    # Without its first address the switch is still found, though another has just been it.
    lan.underlay.run(["nft", "flush", "ruleset"])
    assert pause(lan, lambda: without(ELSEWHERE)) < 10


@pytest.mark.netns("ip", "ping", "nft", "sysctl")
def test_a_switch_behind_a_router_whose_address_changes_is_found(lan):
    gate, host = lan.host("gate"), lan.members["pc1"]
    gate.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"])
    before, after = "192.0.2.201", "192.0.2.202"
    gate.call(netlink.add_address, UNDERLAY, f"{before}/24")
    rules = "".join(
        f"chain {name} {{ type nat hook {hook} priority {priority}; {what}\n}}\n"
        for name, hook, priority, what in (
            ("in", "prerouting", -100, f"udp dport 7450 dnat to {SWITCH_ADDRESS}"),
            ("out", "postrouting", 100, "masquerade"),
        )
    )
    gate.run(["nft", "-f", "-"], input=f"table ip t {{\n{rules}}}")
    names(host, before)
    assert pause(lan, lambda: dropped(lan, "ether type ip6")) < 10

    def move():
        gate.call(netlink.remove_address, UNDERLAY, f"{before}/24")
        gate.call(netlink.add_address, UNDERLAY, f"{after}/24")
        names(host, after)

    assert pause(lan, move) < 10
    assert joined(lan, "pc1")["state"] == "up"


@pytest.mark.netns("ip", "ping")
def test_a_member_behind_a_nat_follows_a_switch_that_moves():
    with Lab() as lab:
        lan = Lan(lab, paths={"pc1": WireSpec(nat=NatSpec())})
        lan.switch.call(netlink.add_address, UNDERLAY, f"{ELSEWHERE}/24")
        lan.serve()
        host = lan.host("pc1")
        names(host, ELSEWHERE)
        lan.join("pc1", invite=lan.invite("pc1", "--public", NAME))
        lan.join("pc2")
        lan.wait_connected("pc1", "pc2")
        reach(host, ipv4(lan, "pc2"))

        def move():
            lan.switch.call(netlink.remove_address, UNDERLAY, f"{ELSEWHERE}/24")
            names(host, SWITCH_ADDRESS)

        assert pause(lan, move) < 10
        lan.stop()
