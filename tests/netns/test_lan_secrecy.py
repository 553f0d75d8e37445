"""What somebody on the wire learns, and what he can do: nothing, and nothing."""

import re
import sys

import pytest

from tests.netns.tools import Capture, ipv4
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, PORT, SWITCH_ADDRESS, UNDERLAY

PATTERN = "c0ffee11decafbad5eed1e55f005ba11"  # 16 bytes: what ping repeats in its payload
DATA = 4  # first byte of a datagram that carries frames: docs/wire-format.md


def frames(capture, least):
    """All that a capture has, once it has so many: tcpdump may be behind."""
    wait_until(lambda: len(capture.frames()) >= least, f"{least} frames in the capture")
    capture.stop()
    return [data for _, data in capture.frames()]


def ping(lan, count=10):
    ask = ["ping", f"-c{count}", "-i0.1", "-W5", "-p", PATTERN, ipv4(lan, "pc2")]
    wait_until(lambda: lan.members["pc1"].run(ask, check=False).returncode == 0, "answer of pc2")
    done = lan.members["pc1"].run(ask)
    assert ", 0% packet loss" in done.stdout
    assert "DUP" not in done.stdout


def drops(status, reason):
    """The sum of a drop counter, wherever it stands in the status."""
    if isinstance(status, dict):
        own = status.get(reason, 0)
        return (own if isinstance(own, int) else 0) + sum(
            drops(value, reason) for value in status.values()
        )
    if isinstance(status, list):
        return sum(drops(value, reason) for value in status)
    return 0


@pytest.mark.netns("tcpdump", "ping")
def test_underlay_shows_no_byte_of_a_frame(lan):
    outside = Capture(lan.underlay, lan.ports["switch"], "udp", "port", str(PORT))
    inside = Capture(lan.members["pc2"], DEV, "icmp")
    ping(lan)
    macs = [
        bytes.fromhex(lan.members[name].call(netlink.find_link, DEV).mac.replace(":", ""))
        for name in ("pc1", "pc2")
    ]
    secrets = [bytes.fromhex(PATTERN), *macs]
    # Ten requests and ten answers, each in and out of the switch.
    plain, sealed = b"".join(frames(inside, 20)), frames(outside, 40)
    assert all(secret in plain for secret in secrets)
    assert not any(secret in frame for secret in secrets for frame in sealed)


SEND_AGAIN = f"""
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("{UNDERLAY}", 0))
for line in sys.stdin:
    sock.send(bytes.fromhex(line))
"""


@pytest.mark.netns("tcpdump", "ping")
def test_captured_datagrams_sent_again_change_a_counter_alone(lan):
    capture = Capture(lan.underlay, lan.ports["pc1"], "udp", "dst", "port", str(PORT))
    ping(lan)

    def captured():
        kept = [frame for _, frame in capture.frames() if 42 < len(frame) <= 1514]
        return [frame for frame in kept if frame[42] == DATA]

    wait_until(lambda: len(captured()) >= 10, "datagrams in the capture")
    capture.stop()
    before, port = lan.status(), lan.port("pc1")
    # Checksums are left to the card when a frame is captured on its way out; 0 is none (RFC 768).
    again = [frame[:40] + b"\0\0" + frame[42:] for frame in captured()]
    lan.members["pc1"].run(
        [sys.executable, "-c", SEND_AGAIN], input="".join(f"{frame.hex()}\n" for frame in again)
    )
    wait_until(
        lambda: drops(lan.status(), "replay") - drops(before, "replay") >= len(again),
        "count of the replays",
    )
    assert lan.port("pc1")["via"] == port["via"]
    assert lan.port("pc1")["since"] == port["since"]
    ping(lan)


STRANGER = f"""
import os, random, select, socket
random.seed(7)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("{SWITCH_ADDRESS}", {PORT}))
for number in range(500):
    size = random.choice([0, 1, 16, 32, 60, 108, 140, 200, 232, 1400])
    sock.send(bytes([number % 9] * (size > 0)) + os.urandom(max(size - 1, 0)))
print(len(select.select([sock], [], [], 2)[0]), "answers")
"""


@pytest.mark.netns("ping")
def test_random_datagrams_get_no_byte_back(lan):
    stranger = lan.host("stranger")
    assert stranger.run([sys.executable, "-c", STRANGER]).stdout == "0 answers\n"
    ping(lan)


@pytest.mark.netns
def test_no_secret_is_in_a_log_or_a_command_line(lan):
    text = lan.invite("pc9")
    code = re.fullmatch(r"vsw2:([a-z2-7]+)", text)[1]
    secret = code[74:99]  # within the 16 bytes that follow the 46 of other fields
    logs = [program.log.read_text() for program in lan.programs.values()]
    assert logs
    assert not any(secret in log for log in logs)
    lan.join("pc9", invite=text)
    lan.wait_connected("pc9")
    assert secret not in lan.programs["pc9"].log.read_text()
    assert secret not in lan.programs["switch"].log.read_text()
    assert not any(secret in argument for argument in lan.programs["pc9"].argv)
