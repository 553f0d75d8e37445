"""What is behind members, with real kernels: a network, the way out, and hosts left as they were.

pc1, pc2 ── LAN ── gw ── inside  192.168.1.0/24, fd99::/64   web .80
                    └─── outside 198.51.100.0/24, 2001:db8:f::/64   web .80
"""

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.netns.tools import joined
from vswitch.devices.masquerade import prepare
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

# Answers with the address that the client has for it.
SERVER = """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].removeprefix("::ffff:").encode())
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Handler).serve_forever()
"""
INSIDE, OUTSIDE, OUTSIDE6 = "192.168.1.80", "203.0.113.80", "2001:db8:e::80"
NEXT, NEXT6 = "198.51.100.80", "2001:db8:f::80"  # of the gateway, on its way there
BEFORE = {}  # what hosts were before anybody joined
PATIENCE = "20"  # seconds for what is to come


def fetch(host, where, *, patience=PATIENCE):
    """What the server says, "" for nothing."""
    argv = ["curl", "-s", "-g", "-m", patience, f"http://{where}/"]
    return host.run(argv, check=False, timeout=60).stdout


def network_of(host):
    """All that a gateway or a way out may change of a host, but for what the kernel gives each link
    in its time.
    """
    lines = [
        line
        for argv in (
            *(["ip", "rule"], ["ip", "-6", "rule"], ["nft", "list", "ruleset"]),
            *(["ip", version, "route", "show", "table", "all"] for version in ("-4", "-6")),
            ["cat", "/etc/resolv.conf", "/etc/hosts"],
        )
        for line in host.run(argv).stdout.splitlines()
        if not any(word in line for word in ("fe80::", "ff00::"))
    ]
    return [*lines, *map(str, sorted(host.call(prepare, (4, 6)).items()))]


def rules(host):
    return host.run(["ip", "rule"]).stdout


@pytest.fixture(scope="module")
def lan(empty_lan):
    """A guarded switch, hosts, and a server behind one of them; nobody has joined."""
    lan, lab = empty_lan, empty_lan.lab
    config = lan.switch.directory / "vswitch.toml"
    config.write_text("[switch]\nguard = true\n")
    lan.serve("--config", str(config))
    gw, web = lan.host("gw"), lab.host("web")
    for number, (name, prefix) in enumerate((("inside", "192.168.1"), ("outside", "198.51.100"))):
        six, dev = ("fd99::", "2001:db8:f::")[number], f"eth{number + 1}"
        segment = lab.bridge(name)
        for host, last in ((gw, "1"), (web, "80")):
            lab.link(host, segment, ifname=dev, address=f"{prefix}.{last}/24")
            host.run(["ip", "address", "add", f"{six}{last}/64", "dev", dev, "nodad"])
    for where, hop in ((OUTSIDE, NEXT), (OUTSIDE6, NEXT6)):
        web.run(["ip", "address", "add", where, "dev", "lo"])
        gw.run(["ip", "route", "add", "default", "via", hop])
    web.popen([sys.executable, "-c", SERVER])
    for host in (lan.host("pc1"), lan.host("pc2")):  # ways out of their own, that lead nowhere
        host.run(["ip", "route", "add", "default", "via", "192.0.2.254", "dev", "eth0"])
        host.run(["ip", "address", "add", "2001:db8:1::5/64", "dev", "eth0", "nodad"])
        host.run(["ip", "route", "add", "default", "via", "2001:db8:1::fe", "dev", "eth0"])
    wait_until(lambda: fetch(gw, INSIDE) == "192.168.1.1", "server")
    BEFORE.update({name: network_of(lan.members[name]) for name in ("gw", "pc1", "pc2")})
    lan.join("gw", "--no-dns", "--advertise", "192.168.1.0/24", "--advertise", "exit")
    lan.join("pc1", "--accept-routes", "private")
    lan.join("pc2", "--exit-node", "gw")
    lan.wait_connected("gw", "pc1", "pc2")
    return lan


def approve(lan, routes):
    lan.command(lan.switch, "member", "set", "gw", f"routes={routes}")


def until(lan, name, what, **wanted):
    def as_wanted():
        status = joined(lan, name)
        return all(check(status[key]) for key, check in wanted.items())

    wait_until(as_wanted, what)


@pytest.mark.netns("curl", "nft", "ip")
def test_nobody_uses_what_is_not_approved(lan):
    until(lan, "gw", "offer", advertised=lambda said: set(said.values()) == {"not approved"})
    assert joined(lan, "pc1")["routes"] == {}
    gw = lan.members["gw"]
    assert [line for line in network_of(gw) if DEV not in line] == BEFORE["gw"]
    said = lan.command(lan.switch, "members").stdout
    assert "(192.168.1.0/24 offered)" in said
    refused = lan.command(lan.switch, "member", "set", "gw", "routes=10.77.0.0/25", check=False)
    assert refused.returncode == 2
    assert "is the LAN itself" in refused.stderr


@pytest.mark.netns("curl", "nft", "ip")
def test_a_server_behind_a_member_is_reached_while_it_is_approved(lan):
    pc1, pc2 = lan.members["pc1"], lan.members["pc2"]
    approve(lan, "192.168.1.0/24")
    until(lan, "pc1", "route", routes=lambda said: "192.168.1.0/24" in said)
    assert fetch(pc1, INSIDE) == "192.168.1.1"
    assert "192.168.1.0/24" not in joined(lan, "pc2")["routes"]  # it has not asked for routes
    assert "--accept-routes" in joined(lan, "pc2")["routes_refused"]["192.168.1.0/24"]
    # So does a program in a network of its own, which has not been asked whether.
    argv = lan.argv(pc2, "exec", "-", "--name", "t1")
    program = ["--", "curl", "-s", "-m", PATIENCE, f"http://{INSIDE}/"]
    done = pc2.run([*argv, *program], input=lan.invite("t1"), timeout=60)
    assert done.stdout == "192.168.1.1"
    # The gateway is one to that network alone.
    pc1.run(["ip", "route", "add", OUTSIDE, "via", gateway(lan), "dev", DEV])
    assert fetch(pc1, OUTSIDE, patience="1") == ""
    pc1.run(["ip", "route", "del", OUTSIDE])
    table = lan.members["gw"].run(["nft", "list", "tables"]).stdout
    assert "table inet vswitch_gw" in table
    approve(lan, "none")
    until(lan, "pc1", "no route", routes=lambda said: said == {})
    until(lan, "gw", "end", advertised=lambda said: set(said.values()) == {"not approved"})
    assert lan.members["gw"].run(["nft", "list", "ruleset"]).stdout == ""
    assert "lookup 7450" not in rules(pc2)


def gateway(lan):
    return lan.port("gw")["address"].partition("/")[0]


@pytest.mark.netns("curl", "nft", "ip")
def test_the_way_out_is_through_a_member_and_no_other(lan):
    pc1, pc2 = lan.members["pc1"], lan.members["pc2"]
    approve(lan, "192.168.1.0/24,exit")
    until(lan, "pc2", "way out", exit_node=lambda said: "gw via" in said)
    assert fetch(pc2, OUTSIDE) == "198.51.100.1"
    assert fetch(pc2, f"[{OUTSIDE6}]") == "2001:db8:f::1"
    way = json.loads(pc2.run(["ip", "-j", "route", "get", "192.0.2.1"]).stdout)
    assert way[0]["dev"] == "eth0"
    # It is no way to what the gateway has inside, unless that is approved, too.
    assert fetch(pc2, NEXT, patience="1") == fetch(pc2, "[fd99::80]", patience="1") == ""
    assert fetch(pc2, INSIDE) == "192.168.1.1"
    argv = lan.argv(pc1, "exec", "-", "--name", "t2", "--exit-node", "gw")
    program = ["--", "curl", "-s", "-m", PATIENCE, f"http://{OUTSIDE}/"]
    done = pc1.run([*argv, *program], input=lan.invite("t2"), timeout=60)
    assert done.stdout == "198.51.100.1"
    # Another member has not asked for it.
    assert joined(lan, "pc1")["exit_node"] is None
    # What somebody takes away is put back.
    pc2.run(["ip", "rule", "del", "priority", "7452"])
    wait_until(lambda: "lookup 7450" in rules(pc2), "rule")
    assert "lookup 7450" not in rules(pc1)


@pytest.mark.netns("curl", "nft", "ip")
def test_one_member_of_a_host_is_a_gateway(lan):
    """Each puts back what it has found, which would be what the other has made of it."""
    gw, before = lan.members["gw"], network_of(lan.members["gw"])
    second = lan.join(
        *("gw2", "--dev", "vsw7", "--address", "none", "--advertise", "fd88::/64"), host=gw
    )
    lan.wait_connected("gw2")
    lan.command(lan.switch, "member", "set", "gw2", "routes=fd88::/64")

    def said():
        joins = json.loads(lan.command(gw, "status", "--json").stdout)["joins"]
        return next(each["advertised"] for each in joins if each["name"] == "gw2")["fd88::/64"]

    wait_until(lambda: "vswitch_gw" in said(), "refusal")
    assert second.stop() == 0
    assert network_of(gw) == before
    assert fetch(lan.members["pc2"], OUTSIDE) == "198.51.100.1"


@pytest.mark.netns("curl", "nft", "ip")
def test_a_table_that_somebody_flushes_is_put_back(lan):
    gw, before = lan.members["gw"], network_of(lan.members["gw"])
    gw.run(["nft", "flush", "ruleset"])
    wait_until(lambda: network_of(gw) == before, "table")
    assert fetch(lan.members["pc2"], OUTSIDE) == "198.51.100.1"


@pytest.mark.netns("curl", "nft", "ip")
def test_the_way_out_is_given_back_and_taken_again_while_the_member_runs(lan):
    pc2 = lan.members["pc2"]
    members = Path(lan.state(pc2), "members")
    here = ["curl", "-s", "--unix-socket", str(members / "pc2.sock"), "http://h/v1/config"]
    tables = json.loads(pc2.run(here).stdout)
    assert tables["join"].pop("exit_node") == "gw"
    for wish in ({}, {"exit_node": "gw"}):
        said = json.dumps({"join": {**tables["join"], **wish}})
        changed = json.loads(pc2.run([*here, "-X", "PUT", "-d", said]).stdout)["changes"]
        assert [(each["key"], each["after"]) for each in changed] == [
            ("join.exit_node", wish.get("exit_node"))
        ]
        assert ("lookup 7450" in rules(pc2)) == bool(wish)
        assert bool(list(members.glob("*.undo"))) == bool(wish)
    assert fetch(pc2, OUTSIDE) == "198.51.100.1"


@pytest.mark.netns("curl", "nft", "ip")
def test_a_gateway_that_goes_is_withdrawn_and_leaves_its_host_as_it_was(lan):
    assert lan.programs["gw"].stop() == 0
    assert network_of(lan.members["gw"]) == BEFORE["gw"]
    until(lan, "pc1", "no route", routes=lambda said: said == {})
    until(lan, "pc2", "no way out", exit_node=lambda said: "nothing leaves" in said)
    lan.members["pc2"].run(["ip", "route", "get", "192.0.2.1"])
    lost = lan.members["pc2"].run(["ip", "route", "get", OUTSIDE], check=False)
    assert "No route to host" in lost.stderr
    lan.join("gw", "--no-dns", "--advertise", "192.168.1.0/24", "--advertise", "exit")
    until(lan, "pc2", "way out", exit_node=lambda said: "gw via" in said)
    assert fetch(lan.members["pc2"], OUTSIDE) == "198.51.100.1"


@pytest.mark.netns("curl", "nft", "ip")
def test_what_a_kill_leaves_the_next_start_undoes(lan):
    for name in ("pc2", "gw"):
        program, host = lan.programs[name], lan.members[name]
        program.stop(signal.SIGKILL)
        assert network_of(host) != BEFORE[name]
        assert list(Path(lan.state(host), "members").glob("*.undo"))
    # Without their options: the file says what there is to undo.
    for name in ("pc2", "gw"):
        lan.join(name)
        lan.wait_connected(name)
        assert lan.programs[name].stop() == 0
        assert network_of(lan.members[name]) == BEFORE[name]
        assert not list(Path(lan.state(lan.members[name]), "members").glob("*.undo"))
    assert lan.programs["pc1"].stop() == 0
    assert network_of(lan.members["pc1"]) == BEFORE["pc1"]
