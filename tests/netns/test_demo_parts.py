"""What the hosts of the demo do, on two hosts with a plain wire between them."""

import json
import secrets
import subprocess
import sys

import pytest

from vswitch.demo import echo, transfer
from vswitch.demo.report import Flow, Pings, Report
from vswitch.demo.story import link_local
from vswitch.demo.transfer import Transfer
from vswitch.demo.watch import Sight, look
from vswitch.errors import VswitchError
from vswitch.lab import Lab, wait_until

PATTERN = secrets.token_bytes(32)


@pytest.fixture(scope="module")
def wired():
    with Lab() as lab:
        wire = lab.bridge("wire")
        hosts = [lab.host("pc1"), lab.host("pc2")]
        for number, host in enumerate(hosts, start=1):
            lab.link(host, wire, ifname="vsw0", address=f"192.0.2.{number}/24")
        yield hosts


@pytest.mark.netns
@pytest.mark.parametrize("version", [4, 6])
def test_echo_is_answered_and_timed(wired, version):
    first, second = wired
    address = (
        "192.0.2.2"
        if version == 4
        else wait_until(lambda: link_local(second), "link-local address")
    )
    echoes = first.call(echo.ping, address, version=version, payload=PATTERN, count=5, dev="vsw0")
    assert (echoes.sent, len(echoes.times)) == (5, 5)
    assert all(0 < each < echo.TIMEOUT for each in echoes.times)


@pytest.mark.netns
def test_nobody_answers(wired):
    with pytest.raises(VswitchError, match=r"192\.0\.2\.99 answered no echo request within"):
        wired[0].call(
            echo.ping, "192.0.2.99", version=4, payload=PATTERN, count=5, dev="vsw0", patience=0.5
        )


@pytest.mark.netns
def test_transfer_arrives_whole(wired):
    first, second = wired
    receiving = second.start(transfer.receive, "192.0.2.2", 5201)
    sent = first.call(
        transfer.send, "192.0.2.2", 5201, pattern=PATTERN, seconds=60, limit=3_000_000
    )
    received = receiving.result()
    assert sent.size >= 3_000_000
    assert (received.size, received.digest) == (sent.size, sent.digest)


@pytest.mark.netns
def test_watch_sees_what_is_in_clear(wired):
    first, second = wired
    watch = first.popen(
        [sys.executable, "-m", "vswitch.demo.watch", "vsw0", PATTERN.hex(), "7450"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout.readline() == "watching\n"
    second.call(echo.ping, "192.0.2.1", version=4, payload=PATTERN, count=5, dev="vsw0")
    output, _ = watch.communicate(timeout=60)
    sight = Sight(**json.loads(output))
    assert sight.clear >= 10
    assert sight.frames >= sight.clear
    assert (sight.datagrams, sight.suites) == (0, [])


def udp(payload, *, source=7450, target=40000):
    header = bytes(12) + b"\x08\x00" + b"\x45" + bytes(8) + b"\x11" + bytes(10)
    return header + source.to_bytes(2, "big") + target.to_bytes(2, "big") + bytes(4) + payload


def test_datagrams_and_suites_are_told_from_other_frames():
    sight = Sight()
    for frame in (
        udp(b"\x01\x01\x00\x02" + bytes(196), source=40000, target=7450),
        udp(b"\x01\x01\x00\x02" + bytes(196), source=40000, target=7450),
        udp(b"\x04\x00\x00\x00" + PATTERN),
        udp(b"", source=53),
        udp(b"")[:40],
        b"",
    ):
        look(frame, PATTERN, 7450, sight)
    assert sight == Sight(frames=6, datagrams=3, clear=1, suites=["AES-256-GCM"])


def test_checksum_is_that_of_rfc_1071():
    assert echo.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert echo.checksum(b"\xff") == 0x00FF


def good_report():
    seen = Transfer(1000, 0.5, "digest")
    return Report(
        pings=[Pings("pc1", "pc2", 4, echo.Echoes("10.77.0.3", 2, [0.001, 0.003]))],
        flows=[Flow("pc1", "pc2", seen, seen)],
        underlay=Sight(frames=20, datagrams=15, suites=["AES-256-GCM"]),
        inside=Sight(frames=20, clear=7),
    )


def test_report_of_success():
    report = good_report()
    assert report.problems == []
    text = report.text()
    assert "pc1 → pc2  IPv4    1.00 /  2.00 /  3.00   2 of 2 answered" in text
    assert "15 datagrams watched between members and switch: 0 with the test pattern" in text
    assert text.endswith("all of it held")
    assert json.loads(json.dumps(report.json()))["flows"][0]["right"] is True


def lost_echo(report):
    report.pings.append(Pings("pc1", "pc2", 6, echo.Echoes("fe80::1", 2, [])))


def wrong_bytes(report):
    report.flows.append(
        Flow("pc2", "pc1", Transfer(1000, 1.0, "digest"), Transfer(1000, 1.0, "other"))
    )


def nothing_sent(report):
    nothing = Transfer(0, 0.0, "digest")
    report.flows.append(Flow("pc2", "pc1", nothing, nothing))


def clear_text(report):
    report.underlay.clear = 1


def no_datagrams(report):
    report.underlay.datagrams = 0


def blind_watch(report):
    report.inside.clear = 0


def not_watched(report):
    report.underlay = None


@pytest.mark.parametrize(
    "spoil",
    [lost_echo, wrong_bytes, nothing_sent, clear_text, no_datagrams, blind_watch, not_watched],
)
def test_report_of_failure(spoil):
    report = good_report()
    spoil(report)
    assert len(report.problems) == 1
    assert f"FAILED: {report.problems[0]}" in report.text()
    assert "all of it held" not in report.text()
    json.dumps(report.json())
