"""The real resolvers of hosts: systemd-resolved, and openresolv with dnsmasq, asked by programs."""

import contextlib
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import TOOL_PATH
from tests.netns.test_recipes import BUS
from tests.netns.tools import ipv4, joined
from vswitch.joining.resolvers import NOBODY
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import DEV, Code, Lan

STUB_RESOLV_CONF = "/run/systemd/resolve/stub-resolv.conf"
# Itself root, since the lab's directories are nobody else's.
USER = "systemd-resolve:x:0:0::/:/usr/sbin/nologin\n"
NO_OTHERS = "[Resolve]\nDNS=\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n"
OPENRESOLV = """
resolv_conf={directory}/etc-resolv.conf
name_servers=127.0.0.1
dnsmasq_conf={directory}/servers
dnsmasq_restart="kill -HUP $(cat {directory}/dnsmasq.pid)"
"""
ASKED = 30  # seconds within which a program that asks for a name has ended, whatever it is told


def tool(name):
    return shutil.which(name, path=TOOL_PATH)


class Asking:
    """A member whose host looks names up by a resolver of its own."""

    def __init__(self, lan, name, environment, refusal, resolv_conf=""):
        """`refusal`: what shows that nobody is asked, and by which word; `resolv_conf` is the file
        to which /etc/resolv.conf of such a host leads.
        """
        self.refusal = refusal
        self.lan, self.name, self.resolv_conf = lan, name, resolv_conf
        self.host = lan.host(name)
        environment = {"PATH": TOOL_PATH, **environment}
        self.environment = environment
        lan.code[name] = Code(variables=environment)

    def join(self):
        program = self.lan.join(self.name)
        self.lan.wait_connected(self.name)
        return program

    def run(self, *argv, check=True):
        return self.host.run(argv, check=check, env=self.environment, timeout=ASKED)

    def daemon(self, name, *argv):
        with (self.host.directory / f"{name}.log").open("ab") as output:
            return self.host.popen(argv, env=self.environment, stdout=output, stderr=output)

    def known(self, name):
        """The address that a program is told for a name; None for none."""
        # What is a link elsewhere cannot be one here, where the file is bound.
        look = '[ -z "$2" ] || cat "$2" > /etc/resolv.conf; exec getent ahostsv4 "$1"'
        found = self.run("sh", "-c", look, "sh", name, self.resolv_conf, check=False).stdout.split()
        return found[0] if found else None

    def refused(self):
        """Whether who asks for a name of the LAN is refused on this host."""
        argv, word = self.refusal
        return word in self.run(*argv, check=False).stdout


def with_resolved(lan, name):
    """A host whose names are looked up by systemd-resolved."""
    directory = lan.host(name).directory
    bus = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus"}
    refusal = ["resolvectl", "dns", DEV], NOBODY
    member = Asking(lan, name, bus, refusal, STUB_RESOLV_CONF)
    (directory / "bus.conf").write_text(BUS.format(directory=directory).lstrip())
    (directory / "passwd").write_text(Path("/etc/passwd").read_text() + USER)
    (directory / "resolved.conf").write_text(NO_OTHERS)
    place = shlex.quote(str(directory))
    # Where it looks for its file: one that is there, or a folder that is made in this host alone.
    member.run("sh", "-ec", f"""
        mount -t tmpfs none /run
        mkdir -p /run/systemd/resolved.conf.d
        cp {place}/resolved.conf /run/systemd/resolved.conf.d/none.conf
        mount --bind {place}/passwd /etc/passwd
        """)  # fmt: skip
    member.daemon("dbus", "dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork")
    wait_until((directory / "bus").exists, "the bus")
    member.daemon("resolved", tool("systemd-resolved"))
    wait_until(lambda: not member.run("resolvectl", "status", check=False).returncode, "resolved")
    return member


def skip_without_openresolv(lan):
    if "openresolv" not in lan.underlay.run([tool("resolvconf"), "--version"], check=False).stdout:
        pytest.skip("resolvconf is another one here")


def with_openresolv(lan, name):
    """A host whose names are looked up by dnsmasq, and whose resolv.conf openresolv writes. That
    looks for its parts at fixed places, which are the host's own here.
    """
    directory, found = lan.host(name).directory, Path(tool("resolvconf"))
    refusal = ["ip", "rule"], "to 10.77.0.1 dport 53 unreachable"
    member = Asking(lan, name, {"PATH": f"{directory}:{TOOL_PATH}"}, refusal)
    own = {
        "/sbin/resolvconf": f"{directory}/resolvconf",
        "/lib/resolvconf": f"{directory}/parts",
        "/run/resolvconf": f"{directory}/interfaces",
        '"/etc': f'"{directory}',
        "SYSCONFDIR=/etc": f"SYSCONFDIR={directory}",
    }
    (directory / "parts").mkdir()
    parts = found.parents[1] / "lib/resolvconf"
    for source, target in (
        (found, directory / "resolvconf"),
        (parts / "libc", directory / "parts/libc"),
        (parts / "dnsmasq", directory / "parts/dnsmasq"),
    ):
        text = source.read_text()
        for there, here in own.items():
            text = text.replace(there, here)
        target.write_text(text)
        target.chmod(0o755)
    (directory / "resolvconf.conf").write_text(OPENRESOLV.format(directory=directory))
    (directory / "servers").write_text("")
    member.daemon(
        *("dnsmasq", "dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
        *(f"--servers-file={directory}/servers", f"--pid-file={directory}/dnsmasq.pid"),
        *("--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--log-queries"),
    )
    wait_until((directory / "dnsmasq.pid").exists, "dnsmasq")
    member.run("resolvconf", "-u")
    return member


@pytest.fixture(scope="module")
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        yield lan
        lan.stop()


@contextlib.contextmanager
def paused(program):
    """The program stands still, and nobody hears from it."""
    program.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        program.process.send_signal(signal.SIGCONT)


def check_look_ups(lan, member, *asking, said):
    """Names are known while the member is in. While the switch is away who asks, as `asking` does,
    is refused, as by `said`, and what was asked then is known as soon as it can be.
    """
    program = member.join()
    own = ipv4(lan, member.name)
    wait_until(lambda: member.known(f"{member.name}.lan") == own, "name by the resolver")
    assert member.known(member.name) == own
    assert member.known("nobody.lan") is None
    lan.programs["switch"].stop()
    wait_until(member.refused, "refusal without a session")
    done = member.run(*asking, check=False)
    assert said in done.stdout + done.stderr
    assert member.known("services.lan") is None
    lan.serve()
    wait_until(lambda: not member.refused(), "end of the refusal")
    assert member.known("services.lan") == "10.77.0.1"
    return program


def check_taken(lan, member, why):
    """A domain that another link of the host has is left to that."""
    program = member.join()
    told = wait_until(lambda: joined(lan, member.name)["refused"].get("names"), "refusal")
    assert why in told
    assert program.stop() == 0


@pytest.mark.netns("dbus-daemon", "systemd-resolved", "resolvectl")
def test_by_systemd_resolved(lan):
    member = with_resolved(lan, "pc1")
    assert member.known("services.lan") is None
    ask = "resolvectl", "query", "another.lan"
    program = check_look_ups(lan, member, *ask, said="Connection refused")
    assert joined(lan, "pc1")["names"] == "lan (resolved)"
    assert "10.77.0.1" in member.run("resolvectl", "query", "services.lan").stdout
    assert program.stop() == 0
    assert DEV not in member.run("resolvectl", "domain").stdout
    assert member.known("services.lan") is None


@pytest.mark.long
@pytest.mark.netns("resolvconf", "dnsmasq", "dig", "ip")
def test_by_openresolv(lan):
    skip_without_openresolv(lan)
    member = with_openresolv(lan, "pc3")
    assert member.known("services.lan") is None
    ask = "dig", "@10.77.0.1", "another.lan", "+tries=1", "+time=25"
    program = check_look_ups(lan, member, *ask, said="unreachable")
    assert joined(lan, "pc3")["names"] == "lan (resolvconf)"
    assert program.stop() == 0
    assert "lan" not in (member.host.directory / "servers").read_text()
    assert member.known("services.lan") is None
    said = "domain lan\\nnameserver 192.0.2.53\\n"
    member.run("sh", "-c", f"printf '{said}' | resolvconf -p -a other")
    check_taken(lan, member, "this host has names of lan from elsewhere")  # its resolv.conf says so


@pytest.mark.long
@pytest.mark.netns("resolvconf", "dnsmasq", "ip")
def test_what_a_kill_leaves_while_the_switch_is_silent(lan):
    skip_without_openresolv(lan)
    member = with_openresolv(lan, "pc4")
    program = member.join()
    wait_until(lambda: member.known("services.lan"), "services.lan by the resolver")
    with paused(lan.programs["switch"]):
        wait_until(lambda: member.known("another.lan") or member.refused(), "refusal in silence")
    wait_until(lambda: not member.refused(), "end of the refusal")
    with paused(lan.programs["switch"]):
        wait_until(lambda: member.known("another.lan") or member.refused(), "refusal in silence")
        program.stop(signal.SIGKILL)
        assert member.refused()
        assert "lan" in (member.host.directory / "servers").read_text()
        lan.command(member.host, "leave", "--force", "pc4")
    assert not member.refused()
    assert "lan" not in (member.host.directory / "servers").read_text()
    assert member.known("services.lan") is None
