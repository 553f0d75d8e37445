"""docs/recipes.md with the programs that people use: what they find on the LAN, and who plugs in.

Files are taken from the page. One LAN for all of it: the switch's host with a port of its own, two
members, and four that speak no vswitch, written from the descriptions of their formats.
"""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest

from tests.netns.tools import Lines, answers, ipv4, reach, until_it_says
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, SWITCH_ADDRESS, UNDERLAY

CLIENT = Path(__file__).with_name("foreign_client.py")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text()
HERE_ADDRESS = "10.77.0.1"  # of the switch's own host
FOREIGN = {"gns3": "nio", "lima": "lima", "vfkit": "vfkit", "router": "vxlan"}  # what they speak
ADDRESSES = {name: f"10.77.0.{200 + number}" for number, name in enumerate(FOREIGN)}
PORTS = {"gns3": 10000, "router": 8472}
OUTSIDE = "198.51.100.1"  # of a host that is no member, behind the underlay
ANSWER = "from a member"


def section(title):
    """What the page has under a heading."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.M)
    return found


def block(title, language):
    """The file or the commands there, of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.DOTALL | re.M)
    return found


def underlay_address(host):
    (shown,) = json.loads(host.run(["ip", "-j", "-4", "address", "show", UNDERLAY]).stdout)
    return shown["addr_info"][0]["local"]


@pytest.fixture(scope="module")
def lan(empty_lan):
    lan = empty_lan
    hosts = {name: lan.host(name) for name in (*FOREIGN, "pc1", "pc2", "outside")}
    text = block("GNS3", "toml") + block("A router with VXLAN", "toml")
    text = text.replace("203.0.113.9", underlay_address(hosts["router"]))
    sockets = {name: str(lan.switch.directory / name) for name in ("lima", "vfkit")}
    kinds = re.findall(r"\| `(qemu-\w+)` \| `unix:", section("Virtual machines"))
    for kind, path in zip(kinds, sockets.values(), strict=True):
        text += f'[[foreign]]\nkind = "{kind}"\nlisten = "unix:{path}"\n'
    config = lan.switch.directory / "vswitch.toml"
    config.write_text(text)
    lan.serve("--config", str(config), "--local-port")
    for name, stub in FOREIGN.items():
        target = [SWITCH_ADDRESS, str(PORTS[name])] if name in PORTS else [sockets[name], "0"]
        argv = [sys.executable, str(CLIENT), stub, *target, DEV, f"{ADDRESSES[name]}/24"]
        client = hosts[name].popen(argv, stdout=subprocess.PIPE, text=True)
        assert client.stdout.readline() == "ready\n"
    for name in ("pc1", "pc2"):
        lan.join(name)
    lan.wait_connected("pc1", "pc2")
    hosts["outside"].run(["ip", "address", "add", f"{OUTSIDE}/24", "dev", "lo"])
    return lan


@pytest.mark.netns("ping", "ip")
def test_programs_of_others_are_on_the_lan(lan):
    where = ADDRESSES | {name: ipv4(lan, name) for name in ("pc1", "pc2")}
    for source, target in permutations(where, 2):
        # VXLAN takes 50 bytes of the 1,500 below it.
        size = "1422" if "router" in (source, target) else "1472"
        reach(lan.members[source], where[target], "-M", "do", "-s", size)
    names = {port["name"].partition("-")[0] for port in lan.status()["ports"]}
    assert names == {"gns3", "qemu", "router", "pc1", "pc2", "local"}
    refused = {each["name"]: each["refused"] for each in lan.status()["foreign"]}
    assert refused["qemu-dgram"] == {"no_frame": 1}  # the greeting


BUS = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={directory}/bus</listen>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow eavesdrop="true"/><allow user="*"/>
  </policy>
</busconfig>
"""
AVAHI = """
[server]
host-name={name}
allow-interfaces={dev}
[wide-area]
enable-wide-area=no
"""


def announce(host):
    """avahi-daemon with a bus and a place of its own; the environment of its clients."""
    directory = host.directory
    (directory / "bus.conf").write_text(BUS.format(directory=directory))
    (directory / "avahi.conf").write_text(AVAHI.format(name=host.name, dev=DEV))
    host.run(["sh", "-c", "mount -t tmpfs none /run && mkdir /run/avahi-daemon"])
    bus = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus"}
    daemons = {
        "dbus": ["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork"],
        "avahi": [
            *("avahi-daemon", f"--file={directory}/avahi.conf", "--no-drop-root"),
            *("--no-chroot", "--no-rlimits"),
        ],
    }
    for name, argv in daemons.items():
        with (directory / f"{name}.log").open("wb") as output:
            host.popen(argv, env=bus, stdout=output, stderr=output)
        if name == "dbus":
            wait_until((directory / "bus").exists, f"the bus of {host.name}")
    wait_until(
        lambda: "Server startup complete" in (directory / "avahi.log").read_text(),
        f"avahi-daemon of {host.name}",
    )
    return bus


@pytest.mark.netns("avahi-daemon", "avahi-browse", "avahi-resolve", "avahi-publish", "dbus-daemon")
def test_names_and_services_of_mdns_are_found(lan):
    pc1, pc2 = lan.members["pc1"], lan.members["pc2"]
    buses = {host.name: announce(host) for host in (pc1, pc2)}
    pc2.popen(
        ["avahi-publish", "-s", "printer", "_ipp._tcp", "631"],
        env=buses["pc2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def found(*argv):
        return pc1.run(argv, env=buses["pc1"], check=False).stdout

    wait_until(
        lambda: ipv4(lan, "pc2") in found("avahi-resolve", "-4", "-n", "pc2.local"), "pc2.local"
    )
    wait_until(
        lambda: f";pc2.local;{ipv4(lan, 'pc2')};631;" in found("avahi-browse", "-rpt", "_ipp._tcp"),
        "the printer",
    )


@pytest.mark.netns("ddsperf")
def test_a_talker_and_a_listener_of_dds_find_each_other(lan, tmp_path):
    """As ROS 2 with Cyclone DDS: discovery by multicast, the interface said in a file."""
    config = tmp_path / "cyclonedds.xml"
    config.write_text(block("DDS and ROS 2", "xml"))
    uri = {"CYCLONEDDS_URI": f"file://{config}"}
    found = ["-Q", "minmatch:1", "-Q", "initwait:40"]
    talker = lan.members["pc1"].popen(
        ["ddsperf", *found, "-D", "60", "pub", "50Hz", "size", "2000"],
        env=uri,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    heard = lan.members["pc2"].run(
        ["ddsperf", *found, "-Q", "samples:50", "-D", "3", "sub"], env=uri, check=False
    )
    talker.terminate()
    assert heard.returncode == 0, heard.stdout + heard.stderr


HEAR = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 27015))
group = socket.inet_aton("239.255.27.15") + socket.inet_aton(sys.argv[1])
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("ready", flush=True)
while True:
    data, source = sock.recvfrom(100)
    print(data.decode(), source[0], flush=True)
    sock.sendto(b"a game", source)
"""
SEEK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.settimeout(float(sys.argv[2]))
sock.sendto(b"who plays?", (sys.argv[1], 27015))
try:
    print(*sock.recvfrom(100)[1])
except TimeoutError:
    print("nobody")
"""


@contextmanager
def default_route(host):
    """By the underlay, as every host has one; its router is away."""
    host.run(["ip", "route", "add", "default", "via", "192.0.2.250", "dev", UNDERLAY])
    yield
    host.run(["ip", "route", "del", "default"])


@pytest.mark.netns("ip", "ping", "tcpdump")
@pytest.mark.parametrize(
    ("to", "route"), [("255.255.255.255", "255.255.255.255"), ("239.255.27.15", "224.0.0.0/4")]
)
def test_a_game_that_asks_everybody_is_heard_on_the_lan(lan, to, route):
    seeker, server = lan.members["pc1"], lan.members["pc2"]
    reach(seeker, ipv4(lan, "pc2"))
    hearing = server.popen(
        [sys.executable, "-c", HEAR, ipv4(lan, "pc2")], stdout=subprocess.PIPE, text=True
    )
    until_it_says(hearing, "ready")
    with default_route(seeker):
        leaves = Lines(seeker, UNDERLAY, "udp port 27015")
        seeker.run([sys.executable, "-c", SEEK, to, "0.1"])
        wait_until(lambda: "27015" in leaves.text(), "the question on the default route")
        leaves.stop()
        assert f"ip route add {route} dev {DEV}\n" in PAGE
        seeker.run(["ip", "route", "add", route, "dev", DEV])
        asked = seeker.run([sys.executable, "-c", SEEK, to, "20"]).stdout
        seeker.run(["ip", "route", "del", route, "dev", DEV])
    hearing.kill()
    assert asked.split()[0] == ipv4(lan, "pc2")


SERVE = f"""
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{ANSWER}")
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("", 80), Page)
print("ready", flush=True)
server.serve_forever()
"""
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
WAY = "The switch's host as a way in and out"
NGINX = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; user root;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  {server}
}}
"""


@pytest.fixture(scope="module")
def web(lan):
    """A web server on a member, which the world outside the LAN does not reach; its address."""
    server = lan.members["pc1"].popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True
    )
    until_it_says(server, "ready")
    address = ipv4(lan, "pc1")
    reach(lan.switch, address)
    return address


@pytest.mark.netns("ip", "ping", "nft", "sysctl")
def test_the_switch_lets_the_world_in_and_members_out(lan, web):
    switch, outside, pc2 = lan.switch, lan.members["outside"], lan.members["pc2"]
    switch.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    switch.run(["nft", "-f", "-"], input=block(WAY, "nft").replace("10.77.0.2", web))
    page = outside.run([sys.executable, "-c", ASK, f"http://{SWITCH_ADDRESS}:8080/"]).stdout
    assert page.strip() == ANSWER
    switch.run(["ip", "route", "add", OUTSIDE, "via", underlay_address(outside)])
    with default_route(pc2):
        assert not answers(pc2, OUTSIDE)
        pc2.run(["ip", "route", "add", SWITCH_ADDRESS, "dev", UNDERLAY])
        for half in ("0.0.0.0/1", "128.0.0.0/1"):
            assert f"ip route add {half} via {HERE_ADDRESS}\n" in section(WAY)
            pc2.run(["ip", "route", "add", half, "via", HERE_ADDRESS])
        reach(pc2, OUTSIDE)


@pytest.mark.netns("ip", "ping", "nginx")
def test_nginx_on_the_host_of_the_switch_hands_on_to_a_member(lan, web):
    place = lan.switch.directory
    server = block(WAY, "nginx").replace("10.77.0.2", web)
    (place / "nginx.conf").write_text(NGINX.format(directory=place, server=server))
    with (place / "nginx.out").open("wb") as output:
        lan.switch.popen(["nginx", "-c", str(place / "nginx.conf")], stdout=output, stderr=output)

    def page():
        argv = [sys.executable, "-c", ASK, f"http://{SWITCH_ADDRESS}:8081/"]
        return lan.members["outside"].run(argv, check=False).stdout.strip()

    wait_until(lambda: page() == ANSWER, "the page")
