"""An emulated wire between two hosts: what the specs say is what programs in the hosts see."""

import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from vswitch.devices import netlink
from vswitch.errors import VswitchError
from vswitch.lab import End, Lab, NatSpec, PathSpec, Wire, wait_until

pytestmark = pytest.mark.netns("ping")

PORT = 7000
PATIENCE = 5.0  # s for a datagram that does arrive
IPV6 = ("fd00:18::1/64", "fd00:18::2/64")


@pytest.fixture(scope="module")
def hosts():
    with Lab() as lab:
        yield lab, lab.host("a"), lab.host("b")


@pytest.fixture
def wire(hosts):
    with Wire(*hosts, seed=1) as wire:
        yield wire


def pings(wire, count, *options, to=None):
    """The round trips of pings from A, in seconds, by number."""
    arguments = ["-n", "-c", str(count), "-W", "2", *options, to or wire.b_end.ip]
    out = wire.a.run(["ping", *arguments], check=False).stdout
    found = re.findall(r"icmp_seq=(\d+) ttl=\d+ time=([\d.]+) ms", out)
    return {int(number): float(time) / 1000 for number, time in found}


# Run inside the hosts.
_open = {}


def listen(port):
    _open[port] = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", port))
    sock.settimeout(PATIENCE)


def heard(port, idle=None):
    """The first datagram and where it came from; with `idle`, all until none came so long."""
    sock = _open[port]
    if idle is None:
        return sock.recvfrom(65536)
    sock.settimeout(idle)
    datagrams = []
    try:
        while True:
            datagrams.append(sock.recv(65536))
    except TimeoutError:
        return datagrams


def say(port, to, payload=b"x", *, dont_fragment=False):
    if dont_fragment:
        _open[port].setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER: IP_PMTUDISC_PROBE
    return _open[port].sendto(payload, to)


def say_many(port, to, count, size, pause=0.0):
    for number in range(count):
        _open[port].sendto(struct.pack("!I", number).ljust(size, b"x"), to)
        if pause:
            time.sleep(pause)


def shut(port):
    _open.pop(port).close()


@pytest.fixture
def sockets(hosts):
    _, a, b = hosts
    for host in (a, b):
        host.call(listen, PORT)
    yield
    for host in (a, b):
        host.call(shut, PORT)


def datagrams(wire, count, size=200, pause=0.0005):
    """Send numbered datagrams from A to B: those that arrived."""
    wire.a.call(say_many, PORT, (wire.b_end.ip, PORT), count, size, pause)
    return wire.b.call(heard, PORT, idle=1.0)


def test_ping_takes_the_delay_of_both_ways(wire):
    pings(wire, 1)  # ARP
    wire.change(forward=PathSpec(delay=0.03), back=PathSpec(delay=0.02))
    trips = pings(wire, 20, "-i", "0.02").values()
    assert len(trips) == 20
    assert min(trips) >= 0.05  # never early; late only as far as the machine is busy
    assert min(trips) < 0.06


def test_ipv6_and_large_frames_cross(hosts):
    ends = [End("big0", (f"198.18.1.{n}/30", IPV6[n - 1])) for n in (1, 2)]
    with Wire(*hosts, mtu=9000, a_end=ends[0], b_end=ends[1]) as wire:
        wait_until(lambda: pings(wire, 1, to="fd00:18::2"), "an answer over IPv6")
        assert pings(wire, 3, "-i", "0.02", "-M", "do", "-s", str(9000 - 28)).keys() == {1, 2, 3}


def test_loss_is_counted_as_configured(wire, sockets):
    pings(wire, 1)
    before = wire.statistics().forward
    wire.change(forward=PathSpec(loss=0.1))
    arrived = datagrams(wire, 3000)
    after = wire.statistics().forward
    # Six standard deviations of 3,000 trials; the hosts' own chatter is in the counters as well.
    assert abs(len(arrived) / 3000 - 0.9) < 6 * (0.09 / 3000) ** 0.5
    assert 0 <= after.lost - before.lost - (3000 - len(arrived)) < 20
    assert wire.missed() == 0


def test_longer_than_the_mtu_of_the_path_vanishes_without_a_word(wire, sockets):
    pings(wire, 1)
    wire.change(forward=PathSpec(mtu=1400))
    to = (wire.b_end.ip, PORT)
    wire.a.call(say, PORT, to, b"l" * (1401 - 28), dont_fragment=True)
    wire.a.call(say, PORT, to, b"s" * (1400 - 28), dont_fragment=True)
    assert wire.b.call(heard, PORT)[0] == b"s" * (1400 - 28)
    assert wire.statistics().forward.too_big == 1


def test_nothing_crosses_a_cut_path_until_it_is_mended(wire):
    assert pings(wire, 1)
    wire.set_up(False)
    assert not pings(wire, 2, "-i", "0.02", "-W", "1")
    wire.set_up(True)
    assert pings(wire, 1)
    assert wire.statistics().forward.down >= 2


def test_the_rate_and_the_queue_of_a_burst(wire, sockets):
    pings(wire, 1)
    wire.change(forward=PathSpec(rate=1e6, queue=12_500))  # a tenth of a second
    before = wire.statistics().forward
    began = time.monotonic()
    wire.a.call(say_many, PORT, (wire.b_end.ip, PORT), 100, 1222)  # IP packets of 1,250 bytes
    last = len(wire.b.call(heard, PORT, idle=1.0))
    assert time.monotonic() - began > 0.09 + 1.0
    after = wire.statistics().forward
    # Ten fit, and one more for each 10 ms that sending took.
    assert 10 <= last < 100
    assert 100 - last <= after.queue_full - before.queue_full < 100 - last + 20


@pytest.mark.netns("iperf3")
def test_iperf_finds_the_rate(wire):
    wire.change(forward=PathSpec(rate=20e6, queue=50_000, delay=0.01), back=PathSpec(delay=0.01))
    server = wire.b.popen(["iperf3", "-s", "-1"])
    try:
        found = None

        def measured():
            nonlocal found
            arguments = ["-c", wire.b_end.ip, "-u", "-b", "30M", "-l", "1200", "-t", "3", "-f", "k"]
            done = wire.a.run(["iperf3", *arguments], check=False)
            found = re.search(r"([\d.]+) Kbits/sec .* receiver", done.stdout)
            return found is not None

        wait_until(measured, "iperf3 server", timeout=60)
    finally:
        server.kill()
        server.wait()
    # A busy machine sends less; what the emulator takes at most is no question of that.
    assert 0.5 < float(found[1]) * 1000 / (20e6 * 1200 / 1228) < 1.04


def test_duplicates_and_damage(wire, sockets):
    pings(wire, 1)
    wire.change(forward=PathSpec(duplicate=0.5))
    arrived = datagrams(wire, 200)
    assert 250 < len(arrived) < 350
    assert len(set(arrived)) == 200
    wire.change(forward=PathSpec(corrupt=0.5))
    arrived = datagrams(wire, 200)  # the kernel's checksums catch every single bit
    assert 50 < len(arrived) < 150
    assert {each[4:] for each in arrived} == {b"x" * 196}


def test_reordering_is_seen(wire, sockets):
    pings(wire, 1)
    wire.change(forward=PathSpec(delay=0.01, reorder=0.1, reorder_delay=0.05))
    numbers = [struct.unpack("!I", each[:4])[0] for each in datagrams(wire, 300)]
    assert sorted(numbers) == list(range(300))
    assert numbers != sorted(numbers)


@pytest.mark.parametrize("address", [None, "198.18.0.3"])
def test_a_server_sees_a_client_behind_a_nat_move(hosts, sockets, address):
    ends = [End("nat0", (f"198.18.0.{n}/29",)) for n in (1, 2)]
    nat = NatSpec(address=address)
    with Wire(*hosts, nat=nat, a_end=ends[0], b_end=ends[1]) as wire:

        def seen():
            wire.a.call(say, PORT, (wire.b_end.ip, PORT), b"ask")
            asked, source = wire.b.call(heard, PORT)
            wire.b.call(say, PORT, source, b"answer")
            assert wire.a.call(heard, PORT) == (b"answer", (wire.b_end.ip, PORT))
            assert asked == b"ask"
            return source

        first = seen()
        assert first == seen() != (wire.a_end.ip, PORT)
        assert first[0] == (address or wire.a_end.ip)
        assert wire.statistics().nat_ports == [first[1]]
        wire.rebind()
        second = seen()
        assert second != first
        wire.b.call(say, PORT, first, b"too late")
        wire.b.call(say, PORT, second, b"in time")
        assert wire.a.call(heard, PORT)[0] == b"in time"
        counts = wire.statistics().nat
        assert (counts.rebindings, counts.unmapped) == (1, 1)


def test_carrier_says_what_it_refuses_and_goes_on(wire):
    with pytest.raises(VswitchError, match="no NAT"):
        wire.rebind()
    assert pings(wire, 1)


def test_the_interfaces_go_with_the_wire(hosts):
    _, a, b = hosts
    with Wire(*hosts) as wire:
        assert a.call(netlink.find_link, wire.a_end.ifname).tap
    wait_until(lambda: a.call(netlink.find_link, wire.a_end.ifname) is None, "end")
    assert b.call(netlink.find_link, wire.b_end.ifname) is None
    with pytest.raises(VswitchError, match="not there"):
        wire.statistics()


def test_a_carrier_that_is_gone_is_an_error(hosts):
    with Wire(*hosts) as wire:
        wire._process.kill()
        wire._process.wait()
        with pytest.raises(VswitchError, match="gone"):
            wire.change(forward=attrs.evolve(wire.forward, loss=0.5))


KILLED = """
import os
from vswitch.lab import Lab, Wire
with Lab() as lab:
    wire = Wire(lab, lab.host("a"), lab.host("b")).__enter__()
    print(wire.pid, lab.directory, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_nothing_stays_of_a_lab_that_was_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    carrier, directory = done.stdout.split()
    wait_until(lambda: not Path("/proc", carrier).exists(), "end of the carrier", timeout=60)
    wait_until(lambda: not Path(directory).exists(), "end of the directory", timeout=60)
