"""The units that the project ships, under a real systemd: started, reloaded, ended by the watchdog,
refused, removed. Each test goes on where the one before has left the system.
"""

import json
import shlex

import pytest

from tests.netns.booted import PREFIX, booted
from vswitch.errors import ExitCode
from vswitch.namespaces.holder import PACKAGES

pytestmark = pytest.mark.netns("/lib/systemd/systemd", "unshare", "nsenter", "setpriv", "ip")

VSWITCH = f"{PREFIX}/bin/vswitch"
SERVE, JOIN = "vswitch-serve.service", "vswitch-join@pc1.service"
CONFIG = "/etc/vswitch/vswitch.toml"
RUNNING = ["active", "running", "success"]
STATE = ("ActiveState", "SubState", "Result")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with booted(tmp_path_factory.mktemp("booted")) as system:
        system.run("systemctl log-level debug")  # which notifications come
        yield system


def port(system):
    """What the switch says of the member; None while it is not there."""
    said = system.run(f"{VSWITCH} status --json || true")
    switch = json.loads(said)["switch"] if said.startswith("{") else None
    ports = [] if switch is None else switch["ports"]
    return next((each for each in ports if (each["name"], each["state"]) == ("pc1", "up")), None)


def notified(system, unit, line):
    """How often the manager has heard it from a unit."""
    heard = system.journal(f"_PID=1 -g 'Got notification message from PID .*{line}' || true")
    return sum(unit in each for each in heard.splitlines())


def test_a_switch_is_installed_and_starts(system):
    said = system.run(f"{VSWITCH} service install join pc1", code=ExitCode.NOT_FOUND)
    assert "has not joined yet" in said
    said = system.run(f"{VSWITCH} service install serve", code=ExitCode.NOT_FOUND)
    source = said.partition("install -D -m 644 ")[2].split()[0]
    assert "set `public` in it" in said
    system.run(
        f"mkdir /etc/vswitch; sed 's/^public = .*/public = \"127.0.0.1\"/' {source} >{CONFIG}"
    )
    assert "is enabled and runs" in system.run(f"{VSWITCH} service install serve")
    assert system.shown(SERVE, *STATE, "UnitFileState", "User") == [*RUNNING, "enabled", "vswitch"]
    assert notified(system, SERVE, "READY=1") == 1
    (text,) = system.shown(SERVE, "StatusText")
    assert text.startswith("serving at ")
    system.run(f"{VSWITCH} status")  # at once: it was waited for
    assert system.run(f"{VSWITCH} service status serve") == f"{SERVE}: enabled, active"
    assert system.run("systemd-analyze verify " + SERVE) == ""
    found = system.run(f"{VSWITCH} doctor || true")
    assert not [id for id in ("unit-failed", "config-wrong", "probe-failed") if f"[{id}]" in found]


def test_a_member_is_installed_once_it_has_joined(system):
    system.run(
        f"{VSWITCH} join $({VSWITCH} invite pc1 2>/dev/null) --user vswitch &"
        " until test -e /var/lib/vswitch/members/pc1.toml; do kill -0 $! || exit; sleep 0.1; done;"
        " kill -INT $!; wait $!",
        code=ExitCode.INTERRUPTED,
    )
    assert "is enabled and runs" in system.run(f"{VSWITCH} service install join pc1")
    assert system.shown(JOIN, *STATE, "UnitFileState") == [*RUNNING, "enabled"]
    assert port(system)["address"] == "10.77.0.2/24"
    assert "10.77.0.2/24" in system.run("ip address show vsw0")
    assert notified(system, JOIN, "READY=1") == 1


def test_a_reload_is_told_and_sessions_stay(system):
    def sessions():
        ups = system.journal("-u", SERVE).count("member-up")
        return system.shown(SERVE, "MainPID"), system.shown(JOIN, "MainPID"), ups

    before = sessions()
    system.run(f"sed -i 's/^max_members = .*/max_members = 7/' {CONFIG}; systemctl reload {SERVE}")
    system.until(lambda: "reloaded" in system.journal("-u", SERVE), "the reload")
    settings = json.loads(system.run(f"{VSWITCH} config show --json"))["settings"]
    assert [each["value"] for each in settings if each["key"][-1] == "max_members"] == [7]
    assert notified(system, SERVE, "RELOADING=1") == 1
    system.until(lambda: notified(system, SERVE, "READY=1") == 2, "its end")
    system.run(f"echo nonsense >>{CONFIG}; systemctl reload {SERVE}")
    system.until(lambda: "reload-refused" in system.journal("-u", SERVE), "the refusal")
    system.run(f"sed -i /nonsense/d {CONFIG}")
    assert system.shown(SERVE, *STATE) == RUNNING
    assert port(system)
    assert sessions() == before
    assert "disconnected" not in system.journal("-u", JOIN)


def edited(system, section):
    """The drop-in that a section of docs/operations.md has people write; the switch goes by it."""
    page = (PACKAGES / "docs/operations.md").read_text()
    text = page.partition(f"\n## {section}\n")[2].partition("```ini\n")[2].partition("```")[0]
    assert text.startswith("[Service]\n")
    folder = f"/etc/systemd/system/{SERVE}.d"
    system.run(
        f"mkdir -p {folder}; printf %s {shlex.quote(text)} >{folder}/{section.split()[0]}.conf;"
        f" systemctl daemon-reload; systemctl restart {SERVE}"
    )


def test_with_what_the_pages_have_edited_it_publishes_and_has_a_local_port(system):
    published = '[[publish]]\nlisten = "tcp://:8080"\nto = "pc1:22"\n'
    system.run(f"cp {CONFIG} /root/good.toml; printf %s {shlex.quote(published)} >>{CONFIG}")
    system.run(f"systemctl restart {SERVE}", code=1)
    assert system.shown(SERVE, "ExecMainStatus") == [str(ExitCode.PRIVILEGE)]
    edited(system, "Publish a service")
    assert "tcp://:8080" in system.run(f"{VSWITCH} publish")
    system.run(f"cp /root/good.toml {CONFIG}; rm -r /etc/systemd/system/{SERVE}.d")
    system.run(f"sed -i 's/^\\[serve\\]$/&\\nlocal_port = true\\ndev = \"vsw9\"/' {CONFIG}")
    edited(system, "Bridging a LAN")
    assert "10.77.0.1/24" in system.run("ip address show vsw9")
    system.run(f"cp /root/good.toml {CONFIG}; rm -r /etc/systemd/system/{SERVE}.d")


def test_a_program_that_hangs_is_ended_and_started_again(system):
    system.run(
        f"mkdir /etc/systemd/system/{SERVE}.d;"
        " printf '[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=3\\nRestartSec=0\\n'"
        f" >/etc/systemd/system/{SERVE}.d/quick.conf; systemctl daemon-reload;"
        f" systemctl restart {SERVE}"
    )
    system.until(lambda: notified(system, SERVE, "WATCHDOG=1") > 2, "feeding")
    pid, restarts = system.shown(SERVE, "MainPID", "NRestarts")
    system.run(f"kill -STOP {pid}")
    system.until(lambda: system.shown(SERVE, "NRestarts") != [restarts], "restart")
    system.until(lambda: system.shown(SERVE, *STATE) == RUNNING, "start")
    assert system.shown(SERVE, "MainPID") != [pid]
    assert "Fatal Python error: Aborted" in system.journal("-u", SERVE)  # where all threads were
    assert "Watchdog timeout" in system.journal("_PID=1", "-u", SERVE)
    system.until(lambda: port(system), "return of the member")
    assert system.shown(JOIN, "NRestarts", *STATE) == ["0", *RUNNING]
    system.run(f"rm -r /etc/systemd/system/{SERVE}.d; systemctl daemon-reload")


def test_a_start_that_fails_says_its_exit_code_and_is_left_alone(system):
    system.run(f"sed -i 's/^\\[serve\\]$/&\\nmtuu = 1/' {CONFIG}")
    system.run(f"systemctl restart {SERVE}", code=1)
    said = system.shown(SERVE, *STATE, "ExecMainStatus", "NRestarts")
    assert said == ["failed", "failed", "exit-code", str(ExitCode.USAGE), "0"]
    assert "unknown option mtuu" in system.journal("-p", "err", "-u", SERVE)
    found = system.run(f"{VSWITCH} doctor", code=ExitCode.FAILED)
    assert f"seen: {SERVE}: has ended with exit code 2" in found
    assert f"seen: {CONFIG}:" in found
    system.run(f"sed -i /mtuu/d {CONFIG}; systemctl start {SERVE}")
    system.until(lambda: port(system), "return of the member")


def test_what_was_installed_is_removed(system):
    for what in ("join pc1", "serve"):
        assert "removed" in system.run(f"{VSWITCH} service remove {what}")
    for unit in (SERVE, JOIN):
        assert system.shown(unit, "ActiveState", "LoadState") == ["inactive", "not-found"]
    assert "vsw" not in system.run("ip -o link")
    left = system.run("find /etc/systemd /var/lib -name '*vswitch-*' -o -name '*.sock'")
    assert left == ""
    system.run(f"{VSWITCH} service status serve", code=ExitCode.FAILED)


def test_a_switch_is_restored_on_an_empty_host(system):
    system.run(f"{VSWITCH} backup /root/switch.tar --with {CONFIG}")
    system.run(f"rm -r /var/lib/vswitch {CONFIG}; userdel vswitch")
    system.run(f"{VSWITCH} restore /root/switch.tar")
    kept = "/var/lib/vswitch/config.toml"
    system.run(f"install -D -m 600 {kept} {CONFIG}")
    said = system.run(f"{VSWITCH} service install serve", code=ExitCode.USAGE)
    assert f"cannot use {CONFIG}: {CONFIG}: cannot be read: Permission denied" in said
    system.run(f"install -D -m 644 {kept} {CONFIG}; {VSWITCH} service install serve")
    assert system.shown(SERVE, *STATE, "User") == [*RUNNING, "vswitch"]
    assert "pc1" in system.run(f"{VSWITCH} members")
    assert "probe-failed" not in system.run(f"{VSWITCH} doctor || true")
