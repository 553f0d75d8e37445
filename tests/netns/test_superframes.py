"""Superframes between real hosts: pc1 and pc2 carry them, pc3 has joined without."""

import json
import signal
import struct
import subprocess
import sys
import time

import pytest

from vswitch.demo import transfer
from vswitch.demo.story import link_local
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

NAMES = ("pc1", "pc2", "pc3")
MTU_FRAME = 1514  # bytes: MTU and Ethernet header
PORT = 5300
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


class Capture:
    """A running tcpdump of what comes in from the LAN; at most `keep` bytes of each frame."""

    def __init__(self, host, *filters, keep=128):
        self.host, self.path = host, host.directory / f"{time.monotonic_ns()}.pcap"
        self.process = host.popen(
            [
                *("tcpdump", "-i", DEV, "-Q", "in", "-U", f"-s{keep}", "-Zroot", "-B8192"),
                *("-w", str(self.path), *filters),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_it_says(self.process, "listening on")

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=20)

    def lengths(self):
        """Bytes of each frame, by the classic pcap format, little-endian."""
        data, at, found = self.path.read_bytes(), 24, []
        while at + 16 <= len(data):
            kept, length = struct.unpack_from("<8xII", data, at)
            found.append(length)
            at += 16 + kept
        return found

    def text(self):
        """What tcpdump makes of it, checksums judged."""
        return self.host.run(["tcpdump", "-r", str(self.path), "-nn", "-vv"]).stdout


def until_it_says(process, word):
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"{process.args} ended")


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


def ipv4(lan, name):
    return lan.port(name)["address"].partition("/")[0]


def start_iperf3(lan, address, *options):
    """A client in pc1 that runs, against a server in pc2."""
    server = lan.members["pc2"].popen(
        ["iperf3", "-s", "-1", "-B", address, "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_it_says(server, "listening")
    client = lan.members["pc1"].popen(
        ["iperf3", "-c", address, "-t3", "-J", *options], stdout=subprocess.PIPE, text=True
    )
    return server, client


def result_of(server, client):
    out, _ = client.communicate(timeout=60)
    server.communicate(timeout=20)
    return json.loads(out)["end"]


@pytest.fixture(scope="module")
def lan(empty_lan):
    empty_lan.serve()
    for name in NAMES:
        empty_lan.join(name, *(("--offload", "off") if name == "pc3" else ()))
    empty_lan.wait_connected(*NAMES)
    addresses = [ipv4(empty_lan, name) for name in NAMES]
    for address in addresses[1:]:
        wait_until(
            lambda target=address: (
                empty_lan.members["pc1"].run(["ping", "-c1", "-W1", target], check=False).returncode
                == 0
            ),
            f"answer of {address}",
        )
    return empty_lan


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
    whole, cut = Capture(pc2, "tcp"), Capture(pc3, keep=2000)
    running = start_iperf3(lan, to_pc2)
    receiving = pc3.start(transfer.receive, everywhere, PORT)
    sent = pc1.call(
        transfer.send, to_pc3, PORT, pattern=bytes(range(251)), seconds=3, limit=20_000_000
    )
    received = receiving.result()
    assert result_of(*running)["sum_received"]["bytes"] > 1_000_000
    for capture in (whole, cut):
        capture.stop()
    assert received.digest == sent.digest
    assert received.size > 1_000_000
    lengths = whole.lengths()
    assert sum(length > MTU_FRAME for length in lengths) > 20
    assert len(cut.lengths()) > received.size / 1448
    assert max(cut.lengths()) == MTU_FRAME
    text = cut.text()
    assert text.count("(correct)") > 500
    assert "incorrect" not in text
    assert checksum_errors(pc2) == checksum_errors(pc3) == {}
    assert lan.port("pc1")["drops"].get("bad_superframe") is None


@pytest.mark.netns("iperf3", "ping")
def test_udp_of_iperf3(lan):
    end = result_of(*start_iperf3(lan, ipv4(lan, "pc2"), "-u", "-b20M", "-l1400"))
    assert end["sum"]["packets"] > 2000
    assert end["sum"]["lost_percent"] < 5
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
    captures = [Capture(host, "udp", "port", str(PORT), keep=2000) for host in (pc2, pc3)]
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
    wait_until(lambda: len(cut.lengths()) >= DATAGRAMS, "capture at pc3")
    wait_until(lambda: len(whole.lengths()) >= DATAGRAMS // carried, "capture at pc2")
    for capture in captures:
        capture.stop()
    if max(whole.lengths()) > MTU_FRAME:  # Linux 6.2 and later
        assert whole.lengths() == [14 + 28 + carried * DATAGRAM] * (DATAGRAMS // carried)
    assert cut.lengths() == [14 + 28 + DATAGRAM] * DATAGRAMS
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
