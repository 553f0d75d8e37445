"""The page beside real hosts: who joins is seen, what passes, and what is dropped and why."""

import shlex
import shutil
import sys
from itertools import pairwise

import pytest

from tests.netns.tools import ipv4, reach, serve_iperf3
from tests.vswitch.page.test_page import go, log_in, shown
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

API = "127.0.0.1:7480"
SIZES = (700, 701, 702)  # bytes, by which a frame is known at the page
# In the page, by its own clock: when it has asked for the status, and when it first showed what.
NOTES = """
window.noted = { asked: [], shown: {} };
const ask = window.fetch;
window.fetch = (...args) => {
  if (String(args[0]).includes("v1/status")) noted.asked.push(Date.now());
  return ask(...args);
};
new MutationObserver(() => {
  for (const each of document.querySelectorAll(".host:not(.away) .name, tr.bad .number")) {
    noted.shown[each.textContent] ??= Date.now();
  }
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""
# From a group address, which the switch drops; says when each frame was sent.
BAD_FRAMES = """
import socket, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
    sock.bind((sys.argv[1], 0))
    for size in map(int, sys.argv[2:]):
        print(time.time())
        head = bytes.fromhex("ffffffffffff 030000000001 88b5")
        sock.send(head + bytes(size - len(head)))
        time.sleep(0.2)
"""


def chromium_in(host):
    """A program that starts Chromium in the network of a host."""
    path = host.directory / "chromium"
    path.write_text(f'#!/bin/sh\nexec {host.enter} {shlex.quote(shutil.which("chromium"))} "$@"\n')
    path.chmod(0o755)
    return path


def asked_between(page, begun, what):
    """How often the page has asked, from a time of this host until it showed that."""
    noted = page.evaluate("noted")
    return sum(begun * 1000 <= each < noted["shown"][what] for each in noted["asked"])


@pytest.mark.netns("chromium", "iperf3", "nsenter")
def test_what_real_hosts_do_is_seen_at_once(empty_lan):
    """The page asks once a second. Who joins is there within two questions, two seconds of its own
    clock; a rate moves while iperf3 runs; a dropped frame has its reason before another question,
    a second.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    lan = empty_lan
    lan.serve("--api", API)
    token = lan.command(lan.switch, "token", "create", "look", "--role", "admin").stdout.split()[-1]
    lan.join("pc1")
    lan.wait_connected("pc1")
    pc1 = lan.members["pc1"]
    with sync_api.sync_playwright() as playwright:
        # Whoever runs the lab is root in there.
        chromium = playwright.chromium.launch(
            executable_path=chromium_in(lan.switch), args=["--no-sandbox"]
        )
        page = chromium.new_page(locale="en", viewport={"width": 1280, "height": 900})
        page.add_init_script(NOTES)
        log_in(page, f"http://{API}/", token)
        shown(page, ".host .name", "pc1")

        lan.join("pc2")
        shown(page, ".host:not(.away) .name", "pc2")
        (port,) = lan.wait_connected("pc2")
        assert asked_between(page, port["since"], "pc2") <= 2

        address = ipv4(lan, "pc2")
        reach(pc1, address)
        server = serve_iperf3(lan.members["pc2"], address)
        client = pc1.popen(["iperf3", "-c", address, "-t60", "-b20M", "-l1000"])
        shown(page, ".host:has(.name:text-is('pc1')) .rates", r"↑ [\d.]+\sMbit/s")
        shown(page, ".host:has(.name:text-is('pc2')) .rates", r"↓ [\d.]+\sMbit/s")
        client.terminate()
        client.wait(20)
        server.communicate(timeout=20)

        go(page, "capture")
        page.get_by_label("Only dropped ones").check()
        page.get_by_role("button", name="Start", exact=True).click()
        shown(page, "main", "Capturing")
        wait_until(lambda: page.evaluate("noted.asked.length") > 0, "question")
        said = pc1.run([sys.executable, "-c", BAD_FRAMES, DEV, *map(str, SIZES)]).stdout.split()
        for size in SIZES:
            shown(page, "tr.bad", rf"pc1.*{size}.*Dropped: source_multicast from a group address")
        asked = [
            asked_between(page, float(at), str(size)) for at, size in zip(said, SIZES, strict=True)
        ]
        assert min(asked) <= 1
        times = page.evaluate("noted.asked")
        assert min(b - a for a, b in pairwise(times)) < 1500  # ms: at best
        chromium.close()
