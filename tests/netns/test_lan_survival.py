"""Killed switch, killed member, lost wire, revoked member: what goes on, and what stops."""

import os
import re
import signal
import time

import pytest

from tests.netns.tools import ipv4
from vswitch.devices import netlink
from vswitch.errors import ExitCode
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, STOP_TIMEOUT
from vswitch.management.client import request

RETURN_TIMEOUT = 90  # seconds: beyond the longest wait between two attempts of a member


@pytest.fixture
def pinging(lan):
    """`ping -i 0.2` from pc1 to pc2, which goes on whatever happens; gives the last answered."""
    address = ipv4(lan, "pc2")
    log = lan.members["pc1"].directory / f"ping-{time.monotonic_ns()}.txt"
    with log.open("wb") as output:
        process = lan.members["pc1"].popen(["ping", "-i0.2", "-O", address], stdout=output)

    def sequences(kind):
        return [int(number) for number in re.findall(rf"{kind}.*icmp_seq=(\d+)", log.read_text())]

    def answered():
        return max(sequences("bytes from"), default=0)

    def asked():
        return max(sequences(""), default=0)

    answered.asked = asked
    wait_until(lambda: answered() > 5, "answers of pc2", timeout=60)
    yield answered
    process.kill()
    process.wait()


def identity(lan, name):
    """What must not change: name, addresses, MAC and index of the interface."""
    link = lan.members[name].call(netlink.find_link, DEV)
    return lan.port(name)["name"], lan.port(name)["address"], link.mac


def interface(lan, name):
    link = lan.members[name].call(netlink.find_link, DEV)
    return link and link.index


def wait_for_answers(answered):
    """Wait for answers to requests that have not been sent yet."""
    asked = answered.asked()
    wait_until(lambda: answered() > asked + 5, "answers again", timeout=RETURN_TIMEOUT)


@pytest.mark.netns("ping")
def test_killed_switch_comes_back(lan, pinging):
    before = [identity(lan, name) for name in ("pc1", "pc2")]
    interfaces = [interface(lan, name) for name in ("pc1", "pc2")]
    lan.programs["switch"].stop(signal.SIGKILL)
    asked = pinging.asked()
    wait_until(lambda: pinging.asked() > asked + 5, "unanswered requests")
    assert [interface(lan, name) for name in ("pc1", "pc2")] == interfaces
    lan.serve()
    wait_for_answers(pinging)
    assert [identity(lan, name) for name in ("pc1", "pc2")] == before
    assert [interface(lan, name) for name in ("pc1", "pc2")] == interfaces
    assert lan.programs["pc1"].running
    assert lan.programs["pc2"].running


@pytest.mark.netns("ping")
def test_killed_member_comes_back_as_itself(lan, pinging):
    before = identity(lan, "pc2")
    lan.programs["pc2"].stop(signal.SIGKILL)
    assert interface(lan, "pc2") is None
    lan.join("pc2")
    wait_for_answers(pinging)
    assert identity(lan, "pc2") == before
    assert [port["name"] for port in lan.status()["ports"]].count("pc2") == 1


@pytest.mark.netns("ping")
def test_member_outlives_a_lost_wire(lan, pinging):
    before, index = identity(lan, "pc2"), interface(lan, "pc2")
    wire = lan.ports["pc2"]
    lan.underlay.call(netlink.configure, wire, up=False)
    asked = pinging.asked()
    wait_until(lambda: pinging.asked() > asked + 15, "unanswered requests")
    lan.underlay.call(netlink.configure, wire, up=True)
    wait_for_answers(pinging)
    assert identity(lan, "pc2") == before
    assert interface(lan, "pc2") == index


@pytest.mark.netns("ping")
def test_member_that_sleeps_wakes(lan, pinging):
    before = identity(lan, "pc2")
    process = lan.programs["pc2"].process
    process.send_signal(signal.SIGSTOP)
    asked = pinging.asked()
    wait_until(lambda: pinging.asked() > asked + 15, "unanswered requests")
    process.send_signal(signal.SIGCONT)
    wait_for_answers(pinging)
    assert identity(lan, "pc2") == before


@pytest.mark.netns
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGQUIT, 0), (signal.SIGINT, 130)]
)
def test_stopped_member_takes_its_interface_along_and_tells_the_switch(lan, number, code):
    assert lan.programs["pc3"].stop(number) == code
    assert interface(lan, "pc3") is None
    wait_until(lambda: lan.port("pc3") is None, "end of the port")
    lan.join("pc3")
    lan.wait_connected("pc3")


@pytest.mark.netns
def test_member_whose_interface_is_deleted_says_so_and_ends(lan):
    """Whoever watches over it may start it anew; by itself it does not undo what somebody did."""
    program = lan.programs["pc3"]
    lan.members["pc3"].run(["ip", "link", "del", DEV])
    assert program.process.wait(STOP_TIMEOUT) == ExitCode.FAILED
    assert "start join again" in program.tail()
    assert "Traceback" not in program.tail()
    wait_until(lambda: lan.port("pc3") is None, "end of the port")
    lan.join("pc3")
    lan.wait_connected("pc3")


@pytest.mark.netns
def test_hangup_ends_neither_member_nor_switch(lan):
    for name in ("pc3", "switch"):
        os.kill(lan.programs[name].process.pid, signal.SIGHUP)
    assert lan.port("pc3")["state"] == "up"
    assert lan.programs["pc3"].running
    assert lan.programs["switch"].running


@pytest.mark.netns
def test_member_waits_for_a_switch_that_is_not_up_yet(lan):
    assert lan.programs["switch"].stop() == 0
    assert lan.programs["pc3"].stop() == 0
    late = lan.join("pc3")
    wait_until(lambda: interface(lan, "pc3"), "interface without a switch")
    lan.serve()
    lan.wait_connected("pc1", "pc2", "pc3")
    assert late.running


@pytest.mark.netns("ping")
def test_revoked_member_is_out_at_once_and_for_good(lan):
    lan.wait_connected("pc1", "pc2", "pc3")
    socket = lan.state(lan.switch) / "control.sock"
    lan.command(lan.switch, "revoke", "pc2")
    wait_until(
        lambda: "pc2" not in [port["name"] for port in request(socket, "status")["ports"]],
        "end of the port",
    )
    assert lan.programs["pc2"].process.wait(20) == 4
    assert "revoked" in lan.programs["pc2"].tail()
    assert interface(lan, "pc2") is None
    assert lan.join("pc2").process.wait(20) == 4
    assert "revoked" in lan.programs["pc2"].tail()
    assert lan.port("pc2") is None
    assert lan.port("pc1")["state"] == "up"
