"""Superframes between real hosts: pc1 and pc2 carry them, pc3 has joined without."""

import json
import signal
import subprocess
import sys

import pytest

from tests.netns.tools import NAMES, Capture, iperf3, ipv4, serve_iperf3, until_it_says
from vswitch.demo import transfer
from vswitch.demo.story import link_local
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

MTU_FRAME = 1514  # bytes: MTU and Ethernet header
PORT = 5300
MOST = 4_000_000  # bytes: what a capture's buffer of 8 MB holds, however late tcpdump reads it
DATAGRAMS, DATAGRAM = 40, 1000  # of the flood; bytes of each
BROADCAST = "10.77.0.255"
# Sends UDP superframes of so many datagrams each (linux/udp.h: SOL_UDP 17, UDP_SEGMENT 103).
FLOOD = f"""
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
size = [(17, 103, struct.pack("H", {DATAGRAM}))]
each = int(sys.argv[1])
for number in range(0, {DATAGRAMS}, each):
    data = b"".join(bytes([one]) * {DATAGRAM} for one in range(number, number + each))
    sock.sendmsg([data], size if each > 1 else [], 0, ("{BROADCAST}", {PORT}))
"""
LISTEN = f"""
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", {PORT}))
sock.settimeout(30)
print("listening", flush=True)
got = [sock.recv(70000) for _ in range({DATAGRAMS})]
assert got == [bytes([each]) * {DATAGRAM} for each in range({DATAGRAMS})], list(map(len, got))
"""


@pytest.fixture(scope="module")
def lan(mixed_lan):
    return mixed_lan


def coming_in(host, *filters, keep=128):
    return Capture(host, DEV, "-Q", "in", *filters, keep=keep)


def lengths(capture):
    return [length for length, _ in capture.frames()]


def checksum_errors(host):
    """Of TCP and UDP over both IPs, as the host's kernel counts them."""
    found = {}
    lines = host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        found |= {
            names.split()[0] + name: int(value)
            for name, value in zip(names.split()[1:], values.split()[1:], strict=True)
        }
    for line in host.run(["cat", "/proc/net/snmp6"]).stdout.splitlines():
        name, value = line.split()
        found[name] = int(value)
    return {name: value for name, value in found.items() if "Csum" in name and value}


@pytest.mark.netns("ping")
def test_members_say_whether_they_carry_superframes(lan):
    said = {name: lan.programs[name].log.read_text() for name in NAMES}
    assert [" offload=on " in said[name] for name in NAMES] == [True, True, False]
    assert " offload=off " in said["pc3"]


@pytest.mark.netns("iperf3", "tcpdump", "ping")
@pytest.mark.parametrize("version", [4, 6])
def test_tcp_superframes_whole_to_one_and_cut_to_another_at_once(lan, version):
    pc1, pc2, pc3 = (lan.members[name] for name in NAMES)
    if version == 4:
        to_pc2, to_pc3, everywhere = ipv4(lan, "pc2"), ipv4(lan, "pc3"), "0.0.0.0"
    else:
        local = [wait_until(lambda h=h: link_local(h), "link-local address") for h in (pc2, pc3)]
        to_pc2, to_pc3 = (f"{address}%{DEV}" for address in local)
        everywhere = "::"
    whole, cut = coming_in(pc2, "tcp"), coming_in(pc3, keep=2000)
    server = serve_iperf3(pc2, to_pc2)
    client = pc1.popen(["iperf3", "-c", to_pc2, "-t3", "-J"], stdout=subprocess.PIPE, text=True)
    receiving = pc3.start(transfer.receive, everywhere, PORT)
    sent = pc1.call(transfer.send, to_pc3, PORT, pattern=bytes(range(251)), seconds=3, limit=MOST)
    received = receiving.result()
    end = json.loads(client.communicate(timeout=60)[0])["end"]
    server.communicate(timeout=20)
    assert end["sum_received"]["bytes"] > 1_000_000
    assert received.digest == sent.digest
    assert received.size > 1_000_000
    # tcpdump may be far behind.
    wait_until(lambda: sum(length > MTU_FRAME for length in lengths(whole)) > 20, "superframes")
    wait_until(lambda: len(lengths(cut)) > received.size / 1448, "all that pc3 has got", timeout=60)
    for capture in (whole, cut):
        capture.stop()
    assert max(lengths(cut)) == MTU_FRAME
    text = cut.text()
    assert text.count("(correct)") > 500
    assert "incorrect" not in text
    assert checksum_errors(pc2) == checksum_errors(pc3) == {}
    assert lan.port("pc1")["drops"].get("bad_superframe") is None


@pytest.mark.netns("iperf3", "ping")
def test_udp_of_iperf3(lan):
    one, two = lan.members["pc1"], lan.members["pc2"]
    end = iperf3(one, two, ipv4(lan, "pc2"), "-t2", "-u", "-b20M", "-l1400")
    assert end["sum"]["packets"] > 500
    assert end["sum"]["lost_percent"] < 50  # a busy receiver's kernel drops some
    assert checksum_errors(lan.members["pc2"]) == {}


@pytest.mark.netns("tcpdump", "ping")
@pytest.mark.parametrize(("sent", "carried"), [(4, 4), (1, DATAGRAMS)])
def test_a_flood_of_udp_superframes(lan, sent, carried):
    """Made by the sender's program, or merged by its member of what came one by one."""
    pc1, pc2, pc3 = (lan.members[name] for name in NAMES)
    listeners = [
        host.popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
        for host in (pc2, pc3)
    ]
    for listener in listeners:
        until_it_says(listener, "listening")
    captures = [coming_in(host, "udp", "port", str(PORT), keep=2000) for host in (pc2, pc3)]
    before = [lan.port(name) for name in NAMES]
    member = lan.programs["pc1"].process
    member.send_signal(signal.SIGSTOP)  # so that it finds all of them at once
    try:
        pc1.run([sys.executable, "-c", FLOOD, str(sent)])
    finally:
        member.send_signal(signal.SIGCONT)
    assert [listener.wait(60) for listener in listeners] == [0, 0]
    after = [lan.port(name) for name in NAMES]
    whole, cut = captures
    # tcpdump writes what it has got a moment after the listeners have.
    wait_until(lambda: len(lengths(cut)) >= DATAGRAMS, "capture at pc3")
    wait_until(lambda: len(lengths(whole)) >= DATAGRAMS // carried, "capture at pc2")
    for capture in captures:
        capture.stop()
    if max(lengths(whole)) > MTU_FRAME:  # Linux 6.2 and later
        assert lengths(whole) == [14 + 28 + carried * DATAGRAM] * (DATAGRAMS // carried)
    assert lengths(cut) == [14 + 28 + DATAGRAM] * DATAGRAMS
    text = cut.text()
    assert text.count("udp sum ok") == DATAGRAMS
    assert "bad udp" not in text
    assert checksum_errors(pc2) == checksum_errors(pc3) == {}
    # Counters of the switch count what the records stand for.
    grown = [
        new[way] - old[way]
        for way, new, old in zip(
            ("rx_frames", "tx_frames", "tx_frames"), after, before, strict=True
        )
    ]
    assert min(grown) >= DATAGRAMS
    assert max(grown) < DATAGRAMS + 20
