"""`vswitch proxy` by a user without any privilege: real clients and servers on both sides."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.netns.test_exec import gone
from tests.netns.tools import ipv4, until_it_says
from tests.netns.user import HOME, UID, User, lan_for_users
from vswitch.errors import ExitCode
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

WORD = "said on the LAN"
NAME, ANSWER = "printer.lan.example", "10.9.8.7"
# A client of UDP ASSOCIATE that asks a name server for an A record; no tool here has that.
ASSOCIATE = """
import socket, struct, sys
server, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
control = socket.create_connection(("127.0.0.1", port))
stream = control.makefile("rwb", 0)
stream.write(b"\\5\\1\\0"); assert stream.read(2) == b"\\5\\0"
stream.write(b"\\5\\3\\0\\1" + bytes(6)); answer = stream.read(10); assert answer[1] == 0, answer
relay = socket.inet_ntoa(answer[4:8]), int.from_bytes(answer[8:], "big")
labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\\0"
query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack("!2H", 1, 1)
head = b"\\0\\0\\0\\3" + bytes([len(server)]) + server.encode() + struct.pack("!H", 53)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
for _ in range(6):
    sock.sendto(head + query, relay)
    try:
        data = sock.recv(4096)
        break
    except TimeoutError:
        pass
print(socket.inet_ntoa(data[-4:]))
"""


lan = pytest.fixture(lan_for_users, scope="module")


@pytest.fixture(scope="module")
def user(lan):
    user = User(lan, lan.host("box"))
    done = user.exec("t1", "true", invite=lan.invite("t1"))
    assert done.returncode == 0, done.stderr
    return user


@contextmanager
def proxy(user, *options, files=4096):
    """A proxy of the member t1, on the LAN, which may open so many files; stopped at the end."""
    argv = user.argv("proxy", "--name", "t1", *options)
    argv = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *argv]
    log = user.host.directory / "proxy.log"
    with log.open("w") as output:
        running = user.host.popen(argv, env={"HOME": str(HOME)}, stdout=output, stderr=output)

    def up():
        assert running.poll() is None, log.read_text()
        return "connected" in log.read_text()

    wait_until(up, "proxy on the LAN")
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, log.read_text()
    gone(user)


def listeners(user):
    """What `status` says of them."""
    argv = user.argv("status", "--json")
    said = user.host.run(argv, env={"HOME": str(HOME)}).stdout
    (join,) = json.loads(said)["joins"]
    return join["proxy"]


@contextmanager
def website(host, address, port):
    """nginx with one page of a word."""
    root = host.directory / f"web{port}"
    root.mkdir(exist_ok=True)
    (root / "index.html").write_text(WORD)
    config = root / "nginx.conf"
    config.write_text(
        f"daemon off; pid {root}/pid; error_log {root}/error.log; user root; worker_processes 1;"
        "events { worker_connections 1024; }"
        f"http {{ access_log off; server {{ listen {address}:{port} backlog=1024; root {root};"
        " keepalive_requests 1000000; } }"
    )
    server = host.popen(
        ["nginx", "-c", str(config), "-p", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = ["curl", "-sf", f"http://{address}:{port}/"]
    wait_until(lambda: host.run(url, check=False).returncode == 0, "page of nginx")
    try:
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def name_server(host):
    """dnsmasq that knows one name."""
    server = host.popen(
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"),
            *("--user=root", f"--interface={DEV}", "--bind-dynamic", "--except-interface=lo"),
            *(f"--host-record={NAME},{ANSWER}", f"--pid-file={host.directory}/dns.pid"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_it_says(server, "started")
    try:
        yield
    finally:
        server.terminate()
        server.communicate(timeout=60)


def curl(user, *arguments):
    return user.host.run(["curl", "-sS", "--max-time", "60", *arguments], check=False)


@pytest.mark.netns("setpriv", "curl", "nginx")
def test_curl_by_socks_and_by_a_forward_and_by_a_unix_socket(user, lan):
    pc1, path = lan.members["pc1"], HOME / "pc1.sock"
    address = ipv4(lan, "pc1")
    with (
        website(pc1, address, 8080),
        proxy(
            user,
            *("--socks", "1080", "--forward", "8081=pc1:8080"),
            *("--forward", f"{path}={address}:8080"),
        ),
    ):
        socks = ["--socks5-hostname", "127.0.0.1:1080"]
        for arguments in (
            [*socks, "http://pc1:8080/"],
            [*socks, f"http://{address}:8080/"],
            ["http://127.0.0.1:8081/"],
        ):
            done = curl(user, *arguments)
            assert done.stdout == WORD, done.stderr
        done = curl(user, "--unix-socket", str(path), "http://pc1/")
        assert done.stdout == WORD
        for url, code in ("http://pc1:9/", 97), ("http://nobody:80/", 97), ("http://nobody/", 97):
            assert curl(user, *socks, url).returncode == code
        first, second, third = listeners(user)
        assert (first["kind"], first["listen"], first["total"]) == ("socks", "127.0.0.1:1080", 5)
        assert first["failed"] == {"refused": 1, "no_name": 2}
        assert (second["target"], second["total"], second["failed"]) == ("pc1:8080", 1, {})
        assert (third["listen"], third["total"]) == (str(path), 1)
        shown = user.host.run(user.argv("status", "t1"), env={"HOME": str(HOME)}).stdout
        assert re.search(r"t1 +forward +127.0.0.1:8081 +pc1:8080 +0 +1 ", shown)


@pytest.mark.netns("setpriv", "curl", "nginx")
def test_curl_with_a_password(user, lan):
    pc1, users = lan.members["pc1"], HOME / "users"
    write = 'umask 077; echo me:pass:word > "$1"; chown "$2" "$1"'
    user.host.run(["sh", "-c", write, "sh", str(users), str(UID)])
    with (
        website(pc1, ipv4(lan, "pc1"), 8080),
        proxy(user, "--socks", "1080", "--socks-users", str(users)),
    ):
        for said, code in ("me:pass%3Aword@", 0), ("me:wrong@", 97), ("", 97):
            place = f"socks5h://{said}127.0.0.1:1080"
            done = curl(user, "--proxy", place, "http://pc1:8080/")
            assert (done.returncode, done.stdout) == (code, "" if code else WORD), done.stderr
        assert listeners(user)[0]["failed"] == {"not_allowed": 2}


@pytest.mark.netns("setpriv", "dig", "dnsmasq", "curl")
def test_udp_by_socks_and_by_a_forward_and_names_of_dns(user, lan):
    with (
        name_server(lan.members["pc1"]),
        proxy(
            user,
            *("--socks", "1080", "--forward", "udp:5353=pc1:53"),
            *("--resolver", ipv4(lan, "pc1")),
        ),
    ):
        dig = ["dig", "-p", "5353", "@127.0.0.1", "+short", "+tries=6", NAME]
        assert user.host.run(dig).stdout.split() == [ANSWER]
        asked = user.host.run([sys.executable, "-c", ASSOCIATE, "pc1", "1080", NAME])
        assert asked.stdout.split() == [ANSWER]
        # Its address is not on the LAN: to have found it is to have tried to connect.
        done = curl(user, "--socks5-hostname", "127.0.0.1:1080", f"http://{NAME}/")
        assert done.returncode == 97
        socks, forward = listeners(user)
        assert "no_name" not in socks["failed"]
        assert (forward["listen"], forward["total"], forward["drops"]) == (
            "udp:127.0.0.1:5353",
            1,
            {},
        )


@pytest.mark.netns("setpriv", "dig", "dnsmasq")
def test_reverse_udp(user, lan):
    """A name server of the user's host answers the LAN."""
    box, pc1 = user.host, lan.members["pc1"]
    server = box.popen(
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"),
            *("--user=root", "--port=5300", f"--host-record={NAME},{ANSWER}"),
            f"--pid-file={box.directory}/dns.pid",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_it_says(server, "started")
    with proxy(user, "--reverse", "udp:53=127.0.0.1:5300"):
        dig = ["dig", f"@{ipv4(lan, 't1')}", "+short", "+tries=6", NAME]
        assert pc1.run(dig).stdout.split() == [ANSWER]
    server.terminate()
    server.communicate(timeout=60)


@pytest.mark.netns("setpriv", "nginx", "wrk", "curl")
def test_200_connections_to_nginx_behind_a_reverse_and_none_is_lost(user, lan):
    with (
        website(user.host, "127.0.0.1", 8082),
        proxy(user, "--reverse", "80=127.0.0.1:8082"),
    ):
        url = f"http://{ipv4(lan, 't1')}/"
        wrk = ["wrk", "-t2", "-c200", "-d5s", "--timeout", "60s", url]
        said = lan.members["pc1"].run(wrk, timeout=120).stdout
        assert "Socket errors" not in said, said
        assert "Non-2xx" not in said, said
        assert int(re.search(r"(\d+) requests in", said)[1]) >= 200, said
        (reverse,) = listeners(user)
        assert reverse["total"] >= 200
        # wrk closes what still waits for an answer, and the kernel makes a reset of that.
        assert reverse["failed"].keys() <= {"reset"}
        assert reverse["open"] == 0


CROWD = """
import socket
crowd = [socket.create_connection(("127.0.0.1", 8081)) for _ in range(50)]
served = 0
for sock in crowd:
    try:
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        served += sock.recv(9) == b"HTTP/1.1 "
    except ConnectionError:
        pass
print(served)
"""


@pytest.mark.netns("setpriv", "curl", "nginx")
def test_clients_take_no_descriptor_that_the_member_needs(user, lan):
    pc1 = lan.members["pc1"]
    with (
        website(pc1, ipv4(lan, "pc1"), 8080),
        proxy(user, "--forward", "8081=pc1:8080", files=64),
    ):
        served = int(user.host.run([sys.executable, "-c", CROWD]).stdout)
        wait_until(lambda: listeners(user)[0]["open"] == 0, "end of the crowd")
        (forward,) = listeners(user)
        assert served >= 1
        assert forward["failed"]["full"] == 50 - forward["total"]
        assert forward["failed"].keys() <= {"full", "reset"}
        assert curl(user, "http://127.0.0.1:8081/").stdout == WORD


SLOW = """
import socket, sys, threading, time
def serve(peer):
    total = 0
    try:
        while data := peer.recv(8192):
            if not total and data != b"half":
                peer.shutdown(socket.SHUT_WR)
            total += len(data)
            time.sleep(0.005)  # most of it waits in the kernel of the other end
        print(total, flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
with socket.create_server((sys.argv[1], 9000)) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    print("ready", flush=True)
    both = [threading.Thread(target=serve, args=(server.accept()[0],)) for _ in range(2)]
    for each in both: each.start()
"""
WHOLE_AND_HALF = """
import socket
whole, half = (socket.create_connection(("127.0.0.1", 9001)) for _ in range(2))
whole.sendall(bytes(1_000_000)); whole.shutdown(socket.SHUT_WR)
half.sendall(b"half")
while whole.recv(99): pass
print("sent", flush=True)
while half.recv(99): pass
"""


@pytest.mark.netns("setpriv")
def test_what_was_relayed_arrives_and_what_was_cut_off_is_reset(user, lan):
    """When the proxy is stopped, on the LAN as on the host."""
    address = ipv4(lan, "pc1")
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = lan.members["pc1"].popen([sys.executable, "-c", SLOW, address], **options)
    until_it_says(server, "ready")
    with proxy(user, "--forward", "9001=pc1:9000"):
        client = user.host.popen([sys.executable, "-c", WHOLE_AND_HALF], **options)
        until_it_says(client, "sent")
        wait_until(lambda: listeners(user)[0]["open"] == 1, "end of the first")
    assert sorted(server.communicate(timeout=60)[0].split()) == ["1000000", "reset"]
    assert "ConnectionResetError" in client.communicate(timeout=60)[0]


@pytest.mark.netns("setpriv")
def test_address_in_use_has_its_exit_code(user):
    taken = user.host.popen(
        [sys.executable, "-um", "http.server", "-b127.0.0.1", "1080"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_it_says(taken, "Serving")
    argv = user.argv("proxy", "--name", "t1", "--socks", "1080")
    done = user.host.run(argv, env={"HOME": str(HOME)}, check=False)
    taken.terminate()
    taken.communicate(timeout=60)
    assert done.returncode == ExitCode.FAILED
    assert "127.0.0.1:1080 is in use by another program" in done.stderr
    gone(user)
