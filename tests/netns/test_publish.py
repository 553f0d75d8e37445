"""Services of members at the switch's host: real clients outside, real servers inside, and no TAP
on the switch."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.netns.test_proxy import WORD, website
from tests.netns.test_recipes import NGINX, block, underlay_address
from tests.netns.tools import Lan, ipv4, until_it_says
from tests.netns.user import UID, User
from vswitch.errors import ExitCode
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import SWITCH_ADDRESS, Code

URL = f"http://{SWITCH_ADDRESS}:8080/"
MANY = f"http://{SWITCH_ADDRESS}:8081/"
CONFIG = """
[switch]
guard = true

[[publish]]
listen = "tcp://0.0.0.0:8080"
max_per_client = "off"
to = "pc1:80"
deny = ["192.0.2.99/32"]

[[publish]]
listen = "udp://:5300-5301"
to = "pc1:5300-5301"
"""
# Says who has asked, after the header of the PROXY protocol, and echoes one datagram a client.
SERVERS = """
import socket, sys, threading
address = sys.argv[1]
def datagrams(port):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((address, port))
    while True:
        data, source = sock.recvfrom(65535)
        sock.sendto(b"%d %s" % (port, data), source)
for port in 5300, 5301:
    threading.Thread(target=datagrams, args=(port,), daemon=True).start()
listener = socket.create_server((address, 81))
print("ready", flush=True)
while True:
    stream, source = listener.accept()
    head = stream.recv(28, socket.MSG_WAITALL)
    stream.recv(65536)  # or closing would be a reset
    stream.sendall(head + source[0].encode())
    stream.close()
"""
ASK = """
import socket, sys
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.settimeout(5)
sock.connect((sys.argv[1], int(sys.argv[2])))
for _ in range(6):
    sock.send(b"word")
    try:
        print(sock.recv(99).decode())
        break
    except TimeoutError:
        pass
"""


def without_privilege(lan):
    """Have the switch run as an ordinary user, where that can be had."""
    if not lan.lab.rootless:
        User(lan, lan.switch)
        os.chown(lan.switch.directory, UID, UID)
        lan.switch.directory.parent.chmod(0o711)
        become = ("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups")
        caps = ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
        lan.code["switch"] = Code(python=(*become, *caps, sys.executable))


@pytest.fixture(scope="module")
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        without_privilege(lan)
        config = lan.switch.directory / "vswitch.toml"
        config.write_text(CONFIG)
        lan.serve("--config", str(config))
        lan.host("box")
        lan.join("pc1")
        lan.wait_connected("pc1")
        yield lan
        lan.stop()


def curl(lan, *arguments):
    return lan.members["box"].run(["curl", "-sS", "--max-time", "60", *arguments], check=False)


def published(lan, listen):
    (found,) = [each for each in lan.status()["published"] if each["listen"] == listen]
    return found


@contextmanager
def servers(lan):
    """Of datagrams, and one that wants the PROXY protocol, on the member."""
    argv = [sys.executable, "-c", SERVERS, ipv4(lan, "pc1")]
    running = lan.members["pc1"].popen(argv, stdout=subprocess.PIPE, text=True)
    until_it_says(running, "ready")
    try:
        yield
    finally:
        running.kill()
        running.communicate(timeout=20)


@pytest.mark.netns("curl")
def test_datagrams_and_the_proxy_protocol_and_the_verbs(lan):
    box, switch = lan.members["box"], lan.switch
    with servers(lan):
        for port in ("5300", "5301"):
            said = box.run([sys.executable, "-c", ASK, SWITCH_ADDRESS, port]).stdout
            assert said == f"{port} word\n"
        assert published(lan, "udp://:5300-5301")["open"] == 2
        done = lan.command(switch, "publish", "tcp://:8081", "pc1:81", "--proxy-protocol")
        assert done.stdout == "tcp://:8081 leads to pc1:81\n"
        path = box.directory / "said"
        box.run(["curl", "-sS", "--http0.9", "-o", str(path), MANY])
        asked = path.read_bytes()
        assert asked[:16].hex() == "0d0a0d0a000d0a515549540a2111000c"
        ours, theirs, _, port = struct.unpack("!4s4sHH", asked[16:28])
        assert (socket.inet_ntoa(ours), socket.inet_ntoa(theirs), port) == (
            underlay_address(box),
            SWITCH_ADDRESS,
            8081,
        )
        assert asked[28:].decode() == "10.77.0.254"  # which no member gets
    shown = lan.command(switch, "publish").stdout
    assert re.search(r"^tcp://:8081 +pc1:81 +10\.77\.0\.\d+ +0 +1 ", shown, re.M), shown
    assert "tcp://0.0.0.0:8080" in lan.command(switch, "status").stdout
    again = lan.command(switch, "publish", "tcp://:8080", "pc1:80", check=False)
    assert "tcp://:8080 takes what comes to tcp://0.0.0.0:8080" in again.stderr
    away = lan.command(switch, "publish", "tcp://:8082", "nobody:80")
    assert "nobody:80 is not reached now (no_name)" in away.stderr
    for listen in ("tcp://:8081", "tcp://:8082"):
        lan.command(switch, "unpublish", listen)
    assert curl(lan, MANY).returncode == 7
    gone = lan.command(switch, "unpublish", "tcp://:8081", check=False)
    assert "nothing is published at tcp://:8081" in gone.stderr


@pytest.mark.netns("wrk", "nginx")
def test_wrk_with_200_connections_loses_none(lan):
    with website(lan.members["pc1"], ipv4(lan, "pc1"), 80):
        before = published(lan, "tcp://0.0.0.0:8080")
        wrk = ["wrk", "-t2", "-c200", "-d2s", "--timeout", "60s", URL]
        said = lan.members["box"].run(wrk, timeout=120).stdout
        assert "Socket errors" not in said, said
        assert "Non-2xx" not in said, said
        assert int(re.search(r"(\d+) requests in", said)[1]) >= 200, said
        after = published(lan, "tcp://0.0.0.0:8080")
        assert after["total"] - before["total"] >= 200
        # wrk closes what still waits for an answer, and the kernel makes a reset of that.
        assert {key for key, n in after["failed"].items() if n != before["failed"].get(key)} <= {
            "reset"
        }


@pytest.mark.netns("wrk", "nginx", "curl", "iperf3")
def test_a_server_that_is_started_again_under_load_is_reset_and_then_served(lan):
    """With a thousand connections; and a stream of datagrams after that arrives."""
    pc1, box, address = lan.members["pc1"], lan.members["box"], ipv4(lan, "pc1")
    listen, before = "tcp://0.0.0.0:8080", published(lan, "tcp://0.0.0.0:8080")
    with website(pc1, address, 80):
        argv = ["wrk", "-t2", "-c1000", "-d6s", "--timeout", "60s", URL]
        load = box.popen(argv, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: published(lan, listen)["open"] >= 500, "the load", timeout=60)
    with website(pc1, address, 80):
        load.communicate(timeout=60)
        assert curl(lan, URL).stdout == WORD
    after = published(lan, listen)
    ended = {key for key, n in after["failed"].items() if n != before["failed"].get(key)}
    assert "reset" in ended
    assert ended <= {"reset", "refused"}
    wait_until(lambda: not published(lan, listen)["open"], "their end")
    places = ("tcp://:5201", "udp://:5201")
    for place in places:
        lan.command(lan.switch, "publish", place, "pc1:5201")
    server = pc1.popen(["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True)
    until_it_says(server, "listening")
    said = box.run(["iperf3", "-u", "-b5M", "-t1", "-l1200", "-J", "-c", SWITCH_ADDRESS]).stdout
    total = json.loads(said)["end"]["sum"]
    assert total["packets"] > 100, said
    assert total["lost_packets"] < total["packets"] / 2, said
    server.communicate(timeout=20)
    for place in places:
        lan.command(lan.switch, "unpublish", place)


ECHO = """
import socket, sys
listener = socket.create_server(("", 7))
print("ready", flush=True)
while True:
    stream, _ = listener.accept()
    while data := stream.recv(65536):
        stream.sendall(data)
"""
TALK = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 8083))
for line in sys.stdin:
    stream.sendall(line.encode())
    print(stream.recv(99).decode(), end="", flush=True)
"""


def children(parent):
    """Processes that a process has started, and that live."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, its_parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and int(its_parent) == parent:
                yield int(path.parent.name)


@pytest.mark.netns
def test_a_member_that_is_killed_and_started_again_keeps_its_connections(lan):
    """The same address, within the grace: what is open goes on, and nothing hangs."""
    pc1, pipes = lan.members["pc1"], {"stdout": subprocess.PIPE, "text": True}
    server = pc1.popen([sys.executable, "-c", ECHO], **pipes)
    until_it_says(server, "ready")
    lan.command(lan.switch, "publish", "tcp://:8083", "pc1:7")
    argv = [sys.executable, "-c", TALK, SWITCH_ADDRESS]
    client = lan.members["box"].popen(argv, stdin=subprocess.PIPE, **pipes)

    def says(word):
        client.stdin.write(f"{word}\n")
        client.stdin.flush()
        return client.stdout.readline() == f"{word}\n"

    assert says("before")
    lan.programs["pc1"].stop(signal.SIGKILL)
    lan.join("pc1")
    lan.wait_connected("pc1")
    assert says("after")
    client.stdin.close()
    client.wait(20)
    # What holds the switch's sandbox is killed: a new one is there for who comes next.
    (holder,) = children(lan.programs["switch"].process.pid)
    os.kill(holder, signal.SIGKILL)
    wait_until(lambda: "publish-lan-lost" in lan.programs["switch"].log.read_text(), "the loss")
    asked = [sys.executable, "-c", TALK, SWITCH_ADDRESS]
    assert lan.members["box"].run(asked, input="again\n").stdout == "again\n"
    lan.command(lan.switch, "unpublish", "tcp://:8083")
    server.kill()
    server.communicate(timeout=20)
    client.stdout.close()


@pytest.mark.netns("setpriv", "unshare")
def test_without_namespaces_one_line_names_the_setting():
    with Lab() as lab:
        if lab.rootless:
            pytest.skip("needs root to become another user")
        lan = Lan(lab)
        without_privilege(lan)
        config = lan.switch.directory / "vswitch.toml"
        config.write_text(CONFIG)
        # In a user namespace of its own, where that setting is its own too.
        script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
        become = ("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups")
        argv = [
            *become,
            "unshare",
            "-Ur",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-m",
            "vswitch",
        ]
        state = str(lan.switch.directory / "state")
        serve = ["serve", "--listen", "127.0.0.1:0", "--config", str(config), "--state", state]
        done = lan.switch.run([*argv, *serve], check=False)
        assert done.returncode == ExitCode.PRIVILEGE, done.stderr
        (line,) = [each for each in done.stderr.splitlines() if "vswitch: error" in each]
        assert "user.max_user_namespaces=15000" in line


SITES = "Web sites of members"


def nginx(place):
    text = block(SITES, "nginx")
    (place / "nginx.conf").write_text(NGINX.format(directory=place, server=text))
    return ["nginx", "-c", str(place / "nginx.conf")]


def caddy(place):
    (place / "Caddyfile").write_text("{\n  admin off\n}\n" + block(SITES, "caddy"))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place / "Caddyfile")]


@pytest.mark.netns("curl", "nginx", "caddy")
def test_web_sites_by_host_name_behind_nginx_and_caddy(lan):
    """The recipe, its files included, with two members."""
    box, switch = lan.members["box"], lan.switch
    names = ("blog", "shop")
    for name in names:
        lan.join(name)
    lan.wait_connected(*names)
    rules = tomllib.loads(block(SITES, "toml"))["publish"]
    for rule in rules:
        lan.command(switch, "publish", rule["listen"], rule["to"])
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(website(lan.members[name], ipv4(lan, name), 80))
            (lan.members[name].directory / "web80" / "index.html").write_text(name)

        def page(name):
            host = f"Host: {name}.example.org"
            return box.run(["curl", "-s", "-H", host, f"http://{SWITCH_ADDRESS}/"], check=False)

        for server in (nginx, caddy):
            place = switch.directory / server.__name__
            place.mkdir()
            home = {"HOME": str(place), "XDG_DATA_HOME": str(place)}
            with (place / "out").open("wb") as output:
                running = switch.popen(server(place), env=home, stdout=output, stderr=output)
            wait_until(lambda: page("blog").stdout == "blog", f"a page by {server.__name__}")
            assert page("shop").stdout == "shop"
            running.terminate()
            running.wait(20)
    for rule in rules:
        lan.command(switch, "unpublish", rule["listen"])
    for name in names:
        lan.programs.pop(name).stop()


@pytest.mark.netns("curl", "nginx")
def test_curl_reaches_a_member_by_name_and_sees_a_reset_when_it_is_away(lan):
    pc1 = lan.members["pc1"]
    with website(pc1, ipv4(lan, "pc1"), 80):
        done = curl(lan, URL)
        assert done.stdout == WORD, done.stderr
        rule = published(lan, "tcp://0.0.0.0:8080")
        assert (rule["address"], rule["name"]) == (ipv4(lan, "pc1"), "pc1")
        (port,) = [each for each in lan.status()["ports"] if each["name"] == "publish"]
        assert port["state"] == "up"
        # Away: a reset at once. Back, under another name and address: reached again.
        lan.programs["pc1"].stop()
        wait_until(lambda: published(lan, rule["listen"])["why"] == "away", "away")
        assert curl(lan, URL).returncode in (7, 56)  # a reset, as it connects or later
        lan.command(lan.switch, "rename", "pc1", "web")
        lan.join("pc1", "--address", "10.77.0.9/24")
        wait_until(lambda: published(lan, rule["listen"])["address"] == "10.77.0.9", "address")
    with website(pc1, "10.77.0.9", 80):
        assert curl(lan, URL).stdout == WORD
        assert published(lan, rule["listen"])["name"] == "web"
        # The switch is killed, and its sandbox with it; the name from before is still the member's.
        left = list(children(lan.programs["switch"].process.pid))
        assert left
        lan.programs["switch"].stop(signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in left), "their end")
        lan.serve("--config", str(lan.switch.directory / "vswitch.toml"))
        # It answers questions before its rules hold.
        wait_until(lambda: any(each["address"] for each in lan.status()["published"]), "the member")
        assert curl(lan, URL).stdout == WORD
        (port,) = [each for each in lan.status()["ports"] if each["name"] == "publish"]
        assert not any(name.startswith("guard") for name in port["drops"]), port


@pytest.mark.netns("curl", "nginx")
def test_with_a_local_port_the_network_of_the_host_is_used():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--local-port")
        lan.host("box")
        lan.join("pc1")
        lan.wait_connected("pc1")
        with website(lan.members["pc1"], ipv4(lan, "pc1"), 80):
            lan.command(lan.switch, "publish", "tcp://:8080", "pc1:80")
            assert curl(lan, URL).stdout == WORD
        names = {port["name"] for port in lan.status()["ports"]}
        assert names == {"local", "pc1"}
        lan.stop()
