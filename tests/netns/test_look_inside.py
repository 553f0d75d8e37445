"""Looking inside a running switch with the tools that people use: tshark, tcpdump, ping."""

import json
import re
import subprocess

import pytest

from tests.netns.tools import ipv4, joined, reach
from vswitch.lab import wait_until


def capture(lan, *arguments, then=None):
    """Start a capture; with `then`, piped into another program, as people do it."""
    first = lan.switch.popen(
        lan.argv(lan.switch, "capture", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if then is None:
        return first, first
    second = lan.switch.popen(
        then, stdin=first.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first.stdout.close()
    return first, second


def rtt(lan, source, target, count=5):
    done = lan.members[source].run(["ping", f"-c{count}", "-i0.05", "-W5", ipv4(lan, target)])
    assert ", 0% packet loss" in done.stdout
    return float(re.search(r"= [\d.]+/([\d.]+)/", done.stdout)[1])


@pytest.mark.netns("ping", "tshark")
def test_tshark_reads_a_capture_with_ports_and_decisions(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    fields = ["-e", "frame.interface_name", "-e", "frame.comment", "-e", "icmp.type"]
    first, second = capture(
        *(lan, "--all", "-w", "-", "--filter", "icmp", "--count", "9"),
        then=["tshark", "-n", "-r", "-", "-T", "fields", *fields],
    )
    rtt(lan, "pc1", "pc2", count=60)  # three seconds: the capture begins somewhere in them
    out, error = second.communicate(timeout=30)
    assert second.returncode == 0, error
    lines = [line.split("\t") for line in out.decode().splitlines()]
    begin = next(at for at, line in enumerate(lines) if line[0] == "pc1" and line[2] == "8")
    lines = lines[begin : begin + 4]
    assert [(port, kind) for port, _, kind in lines] == [
        ("pc1", "8"),
        ("pc2", "8"),
        ("pc2", "0"),
        ("pc1", "0"),
    ]
    assert lines[0][1].startswith("to pc2 (")
    assert lines[0][1].endswith(": known)")
    assert lines[1][1] == "from pc1"
    assert first.wait(10) == 0
    assert b"9 frames captured" in first.stderr.read()


@pytest.mark.netns("ping", "tcpdump")
def test_tcpdump_reads_a_capture_and_ctrl_c_ends_it_whole(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    path = lan.switch.directory / "lan.pcapng"
    running, _ = capture(lan, "pc1", "-w", str(path), "--snaplen", "64", "--filter", "icmp")
    wait_until(lambda: path.exists() and path.stat().st_size, "start of the capture")
    rtt(lan, "pc1", "pc2", count=10)
    running.send_signal(2)
    _, error = running.communicate(timeout=20)
    assert running.returncode == 0
    assert b"20 frames captured" in error
    done = lan.switch.run(["tcpdump", "-nr", str(path)])
    assert done.stdout.count("ICMP echo request") == 10
    assert done.stdout.count("ICMP echo reply") == 10
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.netns("ping")
def test_an_impairment_shows_in_ping_and_ends_by_itself(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    listed = lan.command(lan.switch, "impair", "pc1", "--delay", "400ms").stdout
    assert "delay 400ms" in listed
    assert rtt(lan, "pc1", "pc2") >= 800  # both ways
    lan.command(lan.switch, "impair", "pc1", "--delay", "400ms", "--for", "1s")
    wait_until(
        lambda: "no port" in lan.command(lan.switch, "impair").stdout, "end of the impairment"
    )
    wait_until(lambda: rtt(lan, "pc1", "pc2") < 400, "pings as before")
    lan.command(lan.switch, "impair", "pc1", "--loss", "30%", "--direction", "in")
    ping = ["ping", "-c100", "-i0.01", "-W1", ipv4(lan, "pc2")]
    lost = re.search(r"(\d+)% packet loss", lan.members["pc1"].run(ping, check=False).stdout)
    assert 0 < int(lost[1]) < 60
    lan.command(lan.switch, "impair", "pc1", "off")
    said = json.loads(lan.command(lan.switch, "counters", "pc1", "--json").stdout)
    assert said["ports"][0]["drops"]["impaired"] > 0


@pytest.mark.netns("ping")
def test_trace_says_where_a_ping_would_go(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    mac = joined(lan, "pc2")["mac"]
    said = json.loads(lan.command(lan.switch, "trace", "in=pc1", f"dst={mac}", "--json").stdout)
    assert [each["name"] for each in said["egress"]] == ["pc2"]
    text = lan.command(lan.switch, "trace", "in=pc1", "dst=01:80:c2:00:00:00", check=False)
    assert text.returncode == 1
    assert "dropped: reserved_destination" in text.stdout


@pytest.mark.netns("ping", "tcpdump")
def test_a_monitor_sees_what_passes_another(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    lan.command(lan.switch, "port", "set", "pc3", "mirror=pc1")
    try:
        seen = lan.members["pc3"].popen(
            ["tcpdump", "-i", "vsw0", "-nn", "-l", "-c", "4", "icmp"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in seen.stderr:
            if "listening on" in line:
                break
        rtt(lan, "pc1", "pc2")
        out, _ = seen.communicate(timeout=20)
        assert out.count("echo request") == out.count("echo reply") == 2
    finally:
        lan.command(lan.switch, "port", "set", "pc3", "mirror=none")


@pytest.mark.netns
def test_events_are_told_as_they_happen(lan):
    following = lan.switch.popen(
        lan.argv(lan.switch, "events", "-f", "--json"),
        stdout=subprocess.PIPE,
        text=True,
    )
    lan.join("pc9")
    lan.wait_connected("pc9")
    kinds = []
    for line in following.stdout:
        event = json.loads(line)
        if event.get("port") == "pc9":
            kinds.append(event["kind"])
        if "member-up" in kinds:
            break
    assert kinds == ["member-enrolled", "port-up", "member-up"]
    following.send_signal(2)
    assert following.wait(20) == 130
