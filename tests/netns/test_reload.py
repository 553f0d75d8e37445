"""A switch that is told something else, again and again, while frames pass: nothing of them is
lost, nor of a stream, and no session ends.
"""

import json
import re
import signal
import socket
import subprocess
import sys

from tests.netns.tools import ipv4, reach
from vswitch.errors import ExitCode
from vswitch.lab import wait_until
from vswitch.lab.lan import SWITCH_ADDRESS
from vswitch.management.client import request

TURNS = 20  # of each; 50 take five seconds more
PUBLISHED = "[[publish]]\nlisten = 'tcp://:8080'\nto = 'pc2:5000'\n"
TEXTS = (
    PUBLISHED + "[port.pc3]\nisolated = true\n",
    PUBLISHED + "idle = '9m'\n[switch]\nguard = true\n[names]\ndomain = 'home'\n"
    "[rules]\nlist = ['deny pc3 -> pc1', 'allow any -> any']\n",
    PUBLISHED + "[dhcp]\nenabled = true\n[[foreign]]\nkind = 'udp'\nlisten = ':9999'\n"
    "[network.lab]\n",
)
KEPT = (
    {"publish": [{"listen": "tcp://:8080", "to": "pc2:5000"}], "names": {"domain": "home"}},
    {"publish": [{"listen": "tcp://:8080", "to": "pc2:5000"}], "dhcp": {"enabled": True}},
)
SERVER = """
import socket, sys, threading
def serve(peer):
    total = 0
    while data := peer.recv(65536):
        total += len(data)
    peer.sendall(b"%d" % total)
    peer.close()
with socket.create_server((sys.argv[1], 5000)) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
CLIENT = """
import select, socket, sys
sent = 0
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        sock.sendall(bytes(5_000))
        sent += 5_000
    sock.shutdown(socket.SHUT_WR)
    print(sent - int(sock.recv(99)), sent > 0)
"""


def program(host, code, *arguments):
    """One that has said that it runs."""
    process = host.popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    return process


def put(path, tables):
    """`PUT /v1/config` over the control socket."""
    body = json.dumps(tables).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        head = f"PUT /v1/config HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b" 200 " in said.split(b"\r\n")[0], said
    return json.loads(said.partition(b"\r\n\r\n")[2])["changes"]


def answered(file):
    """The numbers of a ping's answers, as they came."""
    return [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", file.read_text())]


def sessions(lan):
    return [(each["name"], each["since"]) for each in lan.status()["ports"] if "since" in each]


def test_reloads_and_puts_cost_no_frame_no_stream_and_no_session(empty_lan):
    lan = empty_lan
    file = lan.switch.directory / "vswitch.toml"
    file.write_text(TEXTS[0])
    lan.serve("--config", str(file))
    for name in ("pc1", "pc2"):
        lan.join(name)
    lan.wait_connected("pc1", "pc2")
    one, two, path = lan.members["pc1"], lan.members["pc2"], lan.state(lan.switch) / "control.sock"
    address = ipv4(lan, "pc2")
    reach(one, address)
    before = sessions(lan)

    server = program(two, SERVER, address)
    streams = [program(one, CLIENT, address, "5000"), program(one, CLIENT, SWITCH_ADDRESS, "8080")]
    answers = one.directory / "ping"
    with answers.open("w") as out:
        ping = one.popen(["ping", "-n", "-i", "0.05", address], stdout=out)
    for turn in range(TURNS):
        file.write_text(TEXTS[(turn + 1) % len(TEXTS)])
        assert request(path, "config-reload", 20.0)["changes"]
    for turn in range(TURNS):
        assert put(path, {"port": {"pc3": {"isolated": turn % 2 == 0}}, **KEPT[turn % 2]})
    running = lan.programs["switch"]
    file.write_text("[switch]\nguard = 'perhaps'\n")
    shown = lan.command(lan.switch, "config", "show").stdout
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload-refused" in running.log.read_text(), "a refusal in the log")
    refused = lan.command(lan.switch, "config", "reload", check=False)
    assert refused.returncode == ExitCode.USAGE
    assert f"{file}:2: switch.guard = perhaps: must be on or off" in refused.stderr
    assert lan.command(lan.switch, "config", "show").stdout == shown
    during = len(answered(answers))
    wait_until(lambda: len(answered(answers)) > during + 20, "answers after the last change")
    ping.send_signal(signal.SIGINT)
    ping.wait()
    heard = answered(answers)
    assert heard == list(range(1, len(heard) + 1))  # in order, and none left out
    for each in streams:
        assert each.communicate("\n")[0] == "0 True\n"
    server.kill()
    server.communicate()
    assert sessions(lan) == before

    wrong = lan.command(lan.switch, "config", "check", str(file), check=False)
    assert (wrong.returncode, str(file) in wrong.stderr) == (ExitCode.USAGE, True)
