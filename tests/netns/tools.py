"""What tests with real hosts do over and over: reach one another, capture, measure, lease."""

import json
import re
import struct
import subprocess
import time

from vswitch.api.recent import LIFE
from vswitch.errors import NotReachable
from vswitch.lab import lan as lab_lan
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV
from vswitch.management.client import request
from vswitch.state import StateDir

NAMES = ("pc1", "pc2", "pc3")  # the members of the LAN that most files have


class Lan(lab_lan.Lan):
    """A LAN whose switch is asked from here: a command takes half a second of the processor, and
    tests look all the time. The state must be seen from here, and not below a mount of its host.
    """

    def status(self):
        time.sleep(LIFE)  # or the answer may be from before what the test has just done
        try:
            return request(StateDir(self.state(self.switch)).control_socket, "status")
        except NotReachable:
            return None


def ipv4(lan, name):
    """The address that the switch gave a member."""
    return lan.port(name)["address"].partition("/")[0]


def joined(lan, name):
    """What a member says of itself."""
    (path,) = StateDir(lan.state(lan.members[name])).join_sockets()
    return request(path, "status")


def answers(host, address, *options):
    """Whether one ping is answered."""
    return host.run(["ping", "-c1", "-W1", *options, address], check=False).returncode == 0


def reach(host, address, *options):
    """Wait until the address answers: it may be tentative, its neighbours unknown."""
    wait_until(lambda: answers(host, address, *options), f"answer of {address}")


class Pings:
    """A ping that goes on, 20 a second. Late is not lost: how late does not count."""

    def __init__(self, host, address):
        self.log = host.directory / f"ping-{time.monotonic_ns()}.txt"
        with self.log.open("wb") as output:
            self.process = host.popen(["ping", "-n", "-i0.05", address], stdout=output)
        wait_until(self.heard, "the first answer")

    def heard(self):
        """The numbers of those that were answered, in the order of the answers."""
        return [int(each) for each in re.findall(r"icmp_seq=(\d+) ttl", self.log.read_text())]

    def all_answered(self, more=10):
        """End it once `more` answers have come since now: none is missing before the last."""
        until = len(self.heard()) + more
        wait_until(lambda: len(self.heard()) >= until, "more answers", timeout=60)
        self.process.terminate()
        self.process.wait(20)
        heard = self.heard()
        assert heard == list(range(1, len(heard) + 1))


def until_it_says(process, word):
    """Wait for a line of a program's output."""
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"{process.args} ended")


class Capture:
    """tcpdump that writes a file, from the moment that it listens; `keep` bytes of each frame."""

    def __init__(self, host, ifname, *arguments, keep=0):
        self.host, self.path = host, host.directory / f"{ifname}-{time.monotonic_ns()}.pcap"
        self.process = host.popen(
            [
                *("tcpdump", "-i", ifname, "-U", f"-s{keep}", "-Zroot", "-B8192"),
                *("-w", str(self.path), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_it_says(self.process, "listening on")

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=20)

    def frames(self):
        """(length on the wire, bytes that were kept) of each; the classic format, little-endian."""
        data, at, found = self.path.read_bytes(), 24, []
        while at + 16 <= len(data):
            kept, length = struct.unpack_from("<8xII", data, at)
            if at + 16 + kept > len(data):  # not all of it is written yet
                break
            found.append((length, data[at + 16 : at + 16 + kept]))
            at += 16 + kept
        return found

    def text(self):
        """What tcpdump makes of it, checksums judged."""
        return self.host.run(["tcpdump", "-r", str(self.path), "-nn", "-vv"]).stdout


class Lines:
    """tcpdump that tells in lines, from the moment that it listens."""

    def __init__(self, host, ifname, *arguments):
        self.path = host.directory / f"{ifname}-{time.monotonic_ns()}.txt"
        with self.path.open("wb") as output:
            self.process = host.popen(
                ["tcpdump", "-i", ifname, "-nn", "-l", "--immediate-mode", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: "listening on" in self.text(), "start of tcpdump")

    def text(self):
        return self.path.read_text()

    def stop(self):
        """End it: all that it has told."""
        self.process.terminate()
        self.process.wait(20)
        return self.text()


def serve_iperf3(host, address):
    """A server for one run, which listens."""
    server = host.popen(
        ["iperf3", "-s", "-1", "-B", address, "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_it_says(server, "listening")
    return server


def iperf3(client, server, address, *options):
    """What a run from one host to another has found at its end."""
    serving = serve_iperf3(server, address)
    done = client.run(["iperf3", "-c", address, "-J", *options])
    serving.communicate(timeout=20)
    return json.loads(done.stdout)["end"]


def serve_leases(host, network):
    """dnsmasq on the LAN, for addresses of `network`, such as 10.99.0."""
    host.popen(
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"),
            *(f"--interface={DEV}", "--bind-dynamic"),
            f"--dhcp-range={network}.100,{network}.120,255.255.255.0,1h",
            f"--dhcp-leasefile={host.directory}/dnsmasq.leases",
            f"--pid-file={host.directory}/dnsmasq.pid",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def ask_for_lease(host):
    """dhclient on the LAN, which takes the address that it gets."""
    script = host.directory / "dhclient-script"
    script.write_text(
        '#!/bin/sh\ncase "$reason" in BOUND|RENEW|REBIND|REBOOT) '
        f'ip addr replace "$new_ip_address/24" dev {DEV} ;; esac\n'
    )
    script.chmod(0o755)
    host.popen(
        [
            *("dhclient", "-d", "-4", "-cf", "/dev/null", "-sf", str(script)),
            *("-lf", f"{host.directory}/leases", "-pf", f"{host.directory}/dhclient.pid"),
            DEV,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
