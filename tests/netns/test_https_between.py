"""What stands between a member and its switch's HTTPS port: web servers, a proxy, an idle limit.

The configurations are those of docs/recipes.md. Nothing but TCP from the host in between comes to
the switch.
"""

import subprocess
import sys
import time

import pytest

from tests.netns.test_recipes import NGINX, block, underlay_address
from tests.netns.tools import Lan, ipv4, joined, reach
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import SWITCH_ADDRESS, UNDERLAY, Code

TITLE = "Behind a web server"
PROXY_TITLE = "A member behind a proxy"
PATIENCE = 90  # seconds: far beyond what it takes
NO_UDP = "meta l4proto udp drop"
HAPROXY = "defaults\n mode http\n timeout connect 10s\n timeout client 1m\n timeout server 1m\n"


@pytest.fixture
def lan():
    with Lab() as lab:
        yield Lan(lab)


def let_in(lan, rule):
    chain = f'type filter hook input priority 0; iifname "{UNDERLAY}" {rule}'
    text = f"table inet t {{ chain c {{ {chain}\n}}\n}}\n"
    lan.switch.run(["nft", "-f", "-"], input=text)


def run(host, argv):
    with (host.directory / f"{argv[0]}.log").open("wb") as output:
        host.popen(argv, stdout=output, stderr=output)


def holds(lan):
    """The member is there over HTTPS, both sides say so, and another member reaches it."""
    (port,) = lan.wait_connected("pc1")
    assert port["via"].startswith("https:")
    lan.join("here", host=lan.switch)
    lan.wait_connected("here")
    reach(lan.members["pc1"], ipv4(lan, "here"))
    assert "https:" in str(joined(lan, "pc1"))


def nginx(place):
    text = block(TITLE, "nginx")
    server = f"server {{ listen 443 ssl; ssl_certificate {place}/site.pem;"
    server += f" ssl_certificate_key {place}/site.pem; {text} }}"
    (place / "nginx.conf").write_text(NGINX.format(directory=place, server=server))
    return ["nginx", "-c", str(place / "nginx.conf")]


def haproxy(place):
    text = block(TITLE, "haproxy").replace("/etc/haproxy/site.pem", f"{place}/site.pem")
    (place / "haproxy.cfg").write_text(HAPROXY + text)
    return ["haproxy", "-db", "-f", str(place / "haproxy.cfg")]


def caddy(place):
    site = f"https://{SWITCH_ADDRESS} {{\n tls {place}/cert.pem {place}/key.pem\n"
    text = block(TITLE, "caddy").replace("www.example.org {\n", site)
    (place / "Caddyfile").write_text(f"{{\n admin off\n auto_https off\n}}\n{text}")
    return ["caddy", "run", "--config", str(place / "Caddyfile")]


@pytest.mark.netns("nft", "ping", "nginx", "haproxy", "caddy", "openssl")
@pytest.mark.parametrize("server", [nginx, haproxy, caddy])
def test_below_a_path_of_a_web_server(lan, server):
    place = lan.switch.directory
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=site"]
    make += ["-addext", f"subjectAltName=IP:{SWITCH_ADDRESS}"]  # caddy looks for it
    lan.switch.run([*make, "-keyout", f"{place}/key.pem", "-out", f"{place}/cert.pem"])
    both = (place / "key.pem").read_text() + (place / "cert.pem").read_text()
    (place / "site.pem").write_text(both)
    lan.serve(
        *("--https", "127.0.0.1:8443", "--https-prefix", "/lan"),
        *("--https-public", f"https://{SWITCH_ADDRESS}/lan"),
    )
    run(lan.switch, server(place))
    let_in(lan, NO_UDP)
    lan.join("pc1")
    holds(lan)


def tinyproxy(lan):
    """On a host of its own, the only one that reaches the switch; its address."""
    host = lan.host("proxy")
    path = host.directory / "tinyproxy.conf"
    path.write_text(block(PROXY_TITLE, "apacheconf"))
    run(host, ["tinyproxy", "-d", "-c", str(path)])
    address = underlay_address(host)
    let_in(lan, f"ip saddr != {address} drop")
    return address


def credentials(lan, text):
    path = lan.host("pc1").directory / "credentials"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@pytest.mark.netns("nft", "ping", "tinyproxy")
def test_through_a_proxy_that_wants_a_password(lan):
    lan.serve("--https", ":443")
    proxy, invite = f"http://{tinyproxy(lan)}:8888", lan.invite("pc1")
    options = ("--proxy", proxy, "--proxy-credentials")
    wrong = credentials(lan, "lan:wrong\n")
    program = lan.join("pc1", "--path", "https", *options, wrong, invite=invite)
    wait_until(
        lambda: "it does not take the name and password" in program.log.read_text(),
        "the reason",
        timeout=PATIENCE,
    )
    assert "wrong" not in program.log.read_text()
    program.stop()
    secret = credentials(lan, "lan:secret\n")
    member = lan.join("pc1", "--path", "https", *options, secret, invite=invite)
    holds(lan)
    member.stop()
    lan.command(lan.members["pc1"], "leave", "pc1", *options, secret)
    assert "pc1" not in lan.command(lan.switch, "members").stdout


@pytest.mark.netns("nft", "ping", "tinyproxy")
def test_through_the_proxy_of_the_environment(lan):
    lan.serve("--https", ":443")
    proxy = tinyproxy(lan)
    lan.code["pc1"] = Code(variables={"HTTPS_PROXY": f"http://lan:secret@{proxy}:8888"})
    lan.join("pc1")
    holds(lan)


RELAY = """
import select, socket, struct, sys, threading
def carry(one, other, idle):
    while ready := select.select([one, other], [], [], idle)[0]:
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)
    print("reset", flush=True)
    for each in (one, other):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()
server = socket.create_server(("", 443))
while True:
    one, _ = server.accept()
    print("connection", flush=True)
    other = socket.create_connection((sys.argv[1], 443))
    threading.Thread(target=carry, args=(one, other, float(sys.argv[2]))).start()
"""


# That no session is idle for so long is shown in transport/endpoint/test_pipes.py, without time.
@pytest.mark.long
@pytest.mark.netns("nft", "ping")
def test_a_middlebox_that_resets_what_is_idle(lan):
    box = lan.host("box")
    address = underlay_address(box)
    lan.serve("--https", ":443", "--https-public", f"https://{address}")
    relay = [sys.executable, "-c", RELAY, SWITCH_ADDRESS, "30"]
    log = box.directory / "relay.log"
    with log.open("wb") as output:
        box.popen(relay, stdout=output, stderr=subprocess.STDOUT)
    let_in(lan, f"ip saddr != {address} drop")
    lan.join("pc1", "--path", "https")
    holds(lan)
    time.sleep(45)  # longer than the limit, and nobody on the LAN has anything to say
    reach(lan.members["pc1"], ipv4(lan, "here"))
    assert log.read_text() == "connection\n"
