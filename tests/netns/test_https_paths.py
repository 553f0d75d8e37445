"""A wire that drops UDP, and passes it again: a member comes over HTTPS and goes back, unharmed."""

import contextlib
import re
import signal
import sys
import time

import pytest

from tests.netns.tools import Lan
from vswitch.lab import Lab
from vswitch.lab.lan import Code
from vswitch.lab.wait import wait_until

DROP = "table inet t { chain c { type filter hook input priority 0; meta l4proto udp drop\n}\n}\n"
PATIENCE = 90  # seconds: far beyond what a change takes


def drop_udp(lan, dropped):
    """What comes to the switch, silently."""
    if dropped:
        lan.switch.run(["nft", "-f", "-"], input=DROP)
    else:
        lan.switch.run(["nft", "delete", "table", "inet", "t"])


def wait_for_path(lan, start):
    def there():
        port = lan.port("pc1")
        return port is not None and port["via"].startswith(start)

    wait_until(there, f"path {start}", timeout=PATIENCE)


@pytest.fixture
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--https", ":443")
        yield lan


HASTY = """
import runpy, sys
from vswitch.joining import paths
paths.ASK_INTERVAL = 2.0
del sys.argv[1:3]  # -m vswitch
runpy.run_module("vswitch", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def nothing_lost(lan):
    """Pings and a TCP stream from pc1 to pc2 meanwhile: all come, once, and the stream goes on."""
    address = lan.wait_connected("pc1", "pc2")[1]["address"].partition("/")[0]
    pc1, pc2 = lan.members["pc1"], lan.members["pc2"]
    pings, server_log, stream_log = (pc1.directory / name for name in ("ping", "server", "stream"))
    with pings.open("wb") as ping_out, server_log.open("wb") as server_out:
        pc2.popen(["iperf3", "-s", "-1", "-i", "1", "--forceflush"], stdout=server_out)
        wait_until(lambda: b"listening" in server_log.read_bytes(), "iperf3", timeout=PATIENCE)
        ping = pc1.popen(["ping", "-i", "0.05", address], stdout=ping_out)
        with stream_log.open("wb") as stream_out:
            stream = pc1.popen(
                ["iperf3", "-c", address, "-t", "600", "-b", "10M"], stdout=stream_out
            )
        wait_until(lambda: any(intervals(server_log)), "a stream", timeout=PATIENCE)
        yield
        before = len(intervals(server_log))
        wait_until(
            lambda: any(intervals(server_log)[before + 1 :]), "bytes after it all", timeout=PATIENCE
        )
        assert stream.poll() is None, stream_log.read_text()
        ping.send_signal(signal.SIGINT)
        ping.wait(PATIENCE)
    said = pings.read_text()
    sent = int(re.search(r"(\d+) packets transmitted", said)[1])
    answered = [int(each) for each in re.findall(r"icmp_seq=(\d+) ttl", said)]
    assert "DUP" not in said
    assert len(answered) >= sent - 20  # those on their way when it ended
    assert sorted(answered) == list(range(1, len(answered) + 1))


@pytest.mark.netns("nft", "ping", "iperf3")
def test_joined_without_udp_back_on_it_and_over_https_again(lan):
    """By members that ask for UDP five times as often as others."""
    hasty = lan.lab.directory / "hasty.py"
    hasty.write_text(HASTY)
    for name in ("pc1", "pc2"):
        lan.code[name] = Code(python=(sys.executable, str(hasty)))
    drop_udp(lan, True)
    for name in ("pc1", "pc2"):
        lan.join(name)
    wait_for_path(lan, "https:")
    with nothing_lost(lan):
        drop_udp(lan, False)
        wait_for_path(lan, "udp:")
        drop_udp(lan, True)
        wait_for_path(lan, "https:")


@pytest.mark.long
@pytest.mark.netns("nft", "ping", "iperf3")
def test_ten_changes_lose_no_ping_and_break_no_stream(lan):
    lan.join("pc1")
    lan.join("pc2")
    with nothing_lost(lan):
        for moves in (True, False, True, False, True):
            drop_udp(lan, True)
            if moves:
                wait_for_path(lan, "https:")
            else:
                time.sleep(1)  # shorter than what a path is left for
            drop_udp(lan, False)
            wait_for_path(lan, "udp:")
            time.sleep(4)  # UDP that lasts is asked again as soon as before


def intervals(log):
    """Bits a second of each second that an iperf3 server has told so far."""
    return [float(each) for each in re.findall(r"([\d.]+) [KMG]?bits/sec", log.read_text())]
