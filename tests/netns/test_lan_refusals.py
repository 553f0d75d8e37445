"""What goes wrong at real interfaces, sockets and privileges: a clear message, the right code."""

import time

import pytest

from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

REFUSED, PRIVILEGE, NOT_REACHABLE, USAGE, FAILED = 4, 7, 3, 2, 1


@pytest.fixture(scope="module")
def lan(empty_lan):
    """A switch with one member, and a host `pc2` that is none yet."""
    empty_lan.serve()
    empty_lan.join("pc1")
    empty_lan.wait_connected("pc1")
    empty_lan.host("pc2")
    return empty_lan


def join(lan, name, *options, text=None, before=(), host=None):
    """Run a join that is to fail: its exit code and what it said."""
    host = host or lan.members["pc2"]
    argv = lan.argv(host, "join", "-", "--name", name, "--dev", DEV, *options)
    invite = lan.invite(name) if text is None else text
    done = host.run([*before, *argv], input=f"{invite}\n", check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.netns
def test_interface_in_use(lan):
    code, said = join(lan, "pc2", host=lan.members["pc1"])
    assert code == FAILED
    assert f"{DEV} is in use by another process" in said
    assert "--dev" in said
    assert lan.port("pc1")["state"] == "up"


@pytest.mark.netns("unshare", "mount")
def test_missing_device_node(lan):
    script = 'mount -t tmpfs none /dev/net && exec "$@"'
    code, said = join(lan, "pc2", before=["unshare", "-m", "sh", "-c", script, "sh"])
    assert code == PRIVILEGE
    assert "/dev/net/tun" in said
    assert "modprobe tun" in said


@pytest.mark.netns("setpriv")
def test_no_privilege(lan):
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    code, said = join(lan, "pc2", before=before)
    assert code == PRIVILEGE
    assert "run as root" in said
    assert lan.members["pc2"].call(netlink.find_link, DEV) is None


@pytest.mark.netns
def test_used_invite(lan):
    text = lan.invite("pc5")
    lan.join("pc5", invite=text)
    lan.wait_connected("pc5")
    code, said = join(lan, "pc5", text=text)
    assert code == REFUSED
    assert "used" in said
    assert lan.port("pc5")["state"] == "up"


@pytest.mark.netns
def test_expired_invite(lan):
    text = lan.invite("pc6", "--expires", "1s")
    made = time.monotonic()
    wait_until(lambda: time.monotonic() > made + 1, "end of the second")
    code, said = join(lan, "pc6", text=text)
    assert code == REFUSED
    assert "expired" in said


@pytest.mark.netns
def test_string_with_a_slip_of_the_pen(lan):
    text = lan.invite("pc7")
    other = "a" if text[20] != "a" else "b"
    code, said = join(lan, "pc7", text=text[:20] + other + text[21:])
    assert code == USAGE
    assert "join string" in said


@pytest.mark.netns
def test_address_of_another_member(lan):
    taken = lan.port("pc1")["address"]
    code, said = join(lan, "pc8", "--address", taken)
    assert code == REFUSED
    assert "pc1" in said
    assert taken.partition("/")[0] in said
    assert lan.port("pc1")["address"] == taken


@pytest.mark.netns
def test_port_in_use(lan):
    argv = lan.argv(lan.switch, "serve", "--listen", ":7450")
    other = [*argv[:-1], str(lan.switch.directory / "other")]
    done = lan.switch.run(other, check=False)
    assert done.returncode == FAILED
    assert "7450" in done.stderr
    assert "in use" in done.stderr


@pytest.mark.netns
def test_status_where_nothing_runs(lan):
    done = lan.command(lan.members["pc2"], "status", check=False)
    assert done.returncode == NOT_REACHABLE
    assert "nothing runs" in done.stderr
