"""Rules between real hosts: what they deny, what goes on while they are loaded, what is told."""

import json
import re
import sys

import pytest

from tests.netns.tools import NAMES, Pings, answers, ipv4, reach
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

# Says back what it hears, at the ports that are given.
SERVER = """
import socket, socketserver, sys, threading
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads = socket.AF_INET6, True, True
for port in sys.argv[1:]:
    threading.Thread(target=Server(("::", int(port)), Echo).serve_forever).start()
"""
# One connection that asks every 20 ms, and says how often it was answered.
CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as sock:
    heard = sock.makefile("rb")
    for number in range(100_000):
        sock.sendall(b"%d\\n" % number)
        assert int(heard.readline()) == number
        print(number, flush=True)
        time.sleep(0.02)
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 1) as sock:
    sock.sendall(b"hello\\n")
    print(sock.recv(100).decode(), end="")
"""
WORLD = "192.88.98.7"
PRIVATE = "198.18.0.1"  # for tests of networks (RFC 2544): nobody is reached by it worldwide
LOADS = 10


def write(lan, *lines, tests=()):
    path = lan.switch.directory / "rules.toml"
    path.write_text(f"[rules]\nlist = {json.dumps(lines)}\ntests = {json.dumps(tests)}\n")
    return str(path)


def load(lan, *lines, tests=(), check=True):
    path = write(lan, *lines, tests=tests)
    return lan.command(lan.switch, "rules", "load", path, check=check)


def opens(host, address, port):
    """Whether a connection is taken, and carries a line and back."""
    argv = [sys.executable, "-c", ASK, address, str(port)]
    return host.run(argv, check=False).stdout == "hello\n"


def told(lan):
    """What each line has decided."""
    said = json.loads(lan.command(lan.switch, "rules", "--json").stdout)
    return {each["rule"]: (each["allowed"], each["denied"]) for each in said["rules"]}


def drops(lan, name):
    return lan.port(name)["drops"].get("rule_denied", 0)


def trace(lan, *words):
    return lan.command(lan.switch, "trace", *words, check=False).stdout  # 1 for what is dropped


@pytest.fixture(scope="module")
def lan(empty_lan):
    lan = empty_lan
    lan.serve()
    for name in NAMES:
        lan.join(name, "--no-dns")
    lan.wait_connected(*NAMES)
    lan.members["pc2"].popen([sys.executable, "-c", SERVER, "22", "80"])
    pc1, address = lan.members["pc1"], ipv4(lan, "pc2")
    for name in ("pc2", "pc3"):
        reach(pc1, ipv4(lan, name))
    wait_until(lambda: opens(pc1, address, 22) and opens(pc1, address, 80), "servers")
    return lan


@pytest.mark.netns("ping")
def test_denied_is_dropped_counted_and_told_and_the_rest_passes(lan):
    pc1, pc3, address = lan.members["pc1"], lan.members["pc3"], ipv4(lan, "pc2")
    rule = "deny any -> pc2 tcp 22"
    load(lan, "allow pc3 -> pc2 tcp 22", rule, tests=("pc1 -> pc2 tcp 22 denied",))
    assert not opens(pc1, address, 22)
    assert opens(pc1, address, 80)
    assert opens(pc3, address, 22)
    assert answers(pc1, address)
    inside = lan.members["pc2"].run(["ip", "-6", "address", "show", "dev", DEV]).stdout
    link_local = re.search(r"(fe80::\S+)/", inside)[1]
    reach(pc1, f"{link_local}%{DEV}")
    assert not opens(pc1, f"{link_local}%{DEV}", 22)
    assert opens(pc1, f"{link_local}%{DEV}", 80)
    count = told(lan)
    assert count["allow pc3 -> pc2 tcp 22"][0] >= 1
    assert count[rule][1] == drops(lan, "pc2") > 0
    assert f"rule 2: {rule}" in trace(lan, "pc1", "pc2", "tcp", "22")
    assert "rule_denied" not in trace(lan, "pc1", "pc2", "tcp", "80")
    assert "rule_denied" not in trace(lan, "pc3", "pc2", "tcp", "22")


@pytest.mark.netns("ping")
def test_what_is_open_stays_over_loads_and_ends_once_it_is_denied(lan):
    pc1, address = lan.members["pc1"], ipv4(lan, "pc2")
    sessions = {name: lan.port(name)["since"] for name in NAMES}
    said = lan.switch.directory / "client.txt"
    with said.open("wb") as output:
        client = pc1.popen([sys.executable, "-c", CLIENT, address, "80"], stdout=output)
    ping = Pings(pc1, address)
    wait_until(lambda: said.stat().st_size, "first answer")
    for number in range(LOADS):
        load(lan, "allow pc1 -> pc2", f"deny pc3 -> pc2 tcp {1000 + number}", "deny pc3 -> pc1")
    ping.all_answered()
    assert client.poll() is None
    assert {name: lan.port(name)["since"] for name in NAMES} == sessions
    assert not answers(lan.members["pc3"], ipv4(lan, "pc1"))
    heard = said.stat().st_size
    wait_until(lambda: said.stat().st_size > heard, "the connection goes on")
    load(lan, "deny pc1 -> pc2 tcp 80")
    before = drops(lan, "pc2")
    wait_until(lambda: drops(lan, "pc2") > before + 1, "what it sends again is dropped")
    heard = said.stat().st_size
    assert answers(pc1, address)
    assert said.stat().st_size == heard
    client.kill()
    client.wait(10)


@pytest.mark.netns
def test_rules_whose_test_fails_change_nothing(lan):
    pc1, address = lan.members["pc1"], ipv4(lan, "pc2")
    load(lan, "deny pc1 -> pc2 tcp 22")
    wrong = load(lan, "allow any -> any", tests=("pc1 -> pc2 tcp 22 denied",), check=False)
    assert wrong.returncode == 2
    assert "rules.tests 1, 'pc1 -> pc2 tcp 22 denied': it is allowed, by rule 1" in wrong.stderr
    assert not opens(pc1, address, 22)
    assert list(told(lan)) == ["deny pc1 -> pc2 tcp 22"]


@pytest.mark.netns("ping")
def test_the_internet_is_what_is_behind_a_gateway(lan):
    pc1, pc3 = lan.members["pc1"], lan.members["pc3"]
    load(lan)
    for where in (WORLD, PRIVATE):
        pc3.run(["ip", "address", "add", f"{where}/32", "dev", "lo"])
        pc1.run(["ip", "route", "add", where, "via", ipv4(lan, "pc3"), "dev", DEV])
        reach(pc1, where)
    load(lan, "deny pc1 -> internet")
    assert not answers(pc1, WORLD)
    assert answers(pc1, PRIVATE)
    assert answers(pc1, ipv4(lan, "pc3"))
    assert told(lan)["deny pc1 -> internet"][1] == 1
