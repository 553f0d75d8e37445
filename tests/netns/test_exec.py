"""`vswitch exec` by a user without any privilege: real tools, and nothing on the host changes."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.netns.tools import ipv4, reach, serve_leases, until_it_says
from tests.netns.user import HOME, TUN, UID, User, lan_for_users
from vswitch.devices import netlink
from vswitch.errors import ExitCode
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

LEASED = "10.99.0"


lan = pytest.fixture(lan_for_users, scope="module")


@pytest.fixture(scope="module")
def user(lan):
    """On a host with the members t1 and t2, whose keys are his."""
    user = User(lan, lan.host("box"))
    for name in ("t1", "t2"):
        done = user.exec(name, "true", invite=lan.invite(name))
        assert done.returncode == 0, done.stderr
    return user


def network_of(host):
    """What a host has of links, addresses, routes, rules, name servers, names and mounts."""
    parts = [
        ["ip", "-d", "link"],
        *(["ip", "address"], ["ip", "route", "show", "table", "all"]),
        *(["ip", "-6", "route", "show", "table", "all"], ["ip", "rule"]),
        ["cat", "/etc/resolv.conf", "/etc/hosts", "/proc/self/mounts"],
    ]
    return [
        re.sub(r"(valid|preferred)_lft \w+|expires \w+", "", host.run(part).stdout)
        for part in parts
    ]


def processes_of(host):
    """Command lines of the user's processes on the machine, those of a zombie not."""
    done = host.run(["pgrep", "-u", str(UID), "-a", "-r", "S,R,D,T"], check=False)
    return done.stdout.splitlines()


def gone(user):
    wait_until(lambda: not processes_of(user.host), "end of all that the user ran")
    left = ["find", "/tmp", "-maxdepth", "1", "-name", "vswitch-exec-*", "-user", str(UID)]
    assert user.host.run(left).stdout == ""


@pytest.mark.netns("setpriv", "ping")
def test_a_member_is_reached_by_name_and_the_largest_frame_passes(user):
    done = user.exec("t1", "ping", "-c3", "-i0.2", "-s1472", "-Mdo", "pc1")
    assert ", 0% packet loss" in done.stdout, done.stderr
    assert done.returncode == 0


@pytest.mark.netns("setpriv", "arping", "tcpdump")
def test_arp_is_asked_and_seen(user, lan):
    script = (
        f"tcpdump -ni {DEV} -c2 --immediate-mode arp > $HOME/seen & "
        f"sleep 1; arping -c3 -w9 -I {DEV} {ipv4(lan, 'pc1')}; wait"
    )
    done = user.exec("t1", "sh", "-c", script)
    mac = lan.members["pc1"].call(netlink.find_link, DEV).mac
    assert mac.upper() in done.stdout.upper(), done.stderr
    assert "who-has" in user.host.run(["cat", str(HOME / "seen")]).stdout


@pytest.mark.netns("setpriv")
def test_name_server_of_the_lan(user, lan):
    server = ipv4(lan, "pc1")
    script = "cat /etc/resolv.conf; ip -br -4 address"
    done = user.exec("t1", "sh", "-c", script, options=["--resolver", server])
    assert done.stdout.startswith(f"nameserver {server}\n"), done.stderr
    assert f"{ipv4_of(user)}/24" in done.stdout
    assert done.stderr == ""


def ipv4_of(user):
    """The address of t1, from its own list of names."""
    done = user.exec("t1", "getent", "hosts", "t1")
    return done.stdout.split()[0]


@pytest.mark.netns("setpriv")
@pytest.mark.parametrize(("options", "uid"), [((), UID), (["--root"], 0)], ids=["user", "root"])
def test_who_the_user_is_inside(user, options, uid):
    done = user.exec("t1", "sh", "-c", "id -u; touch $HOME/mine", options=options)
    assert done.stdout.split() == [str(uid)], done.stderr
    assert user.host.run(["stat", "-c%u", str(HOME / "mine")]).stdout.split() == [str(UID)]


@pytest.mark.netns("setpriv", "ip")
def test_nothing_of_the_host_changes(user):
    before = network_of(user.host)
    running = user.start("t1", "sh", "-c", "ip -br link; cat", stdin=subprocess.PIPE)
    until_it_says(running, DEV)
    during = network_of(user.host)
    running.communicate("", timeout=60)
    assert running.returncode == 0
    assert network_of(user.host) == during == before
    gone(user)


@pytest.mark.netns("setpriv", "ping")
def test_two_side_by_side_reach_each_other(user, lan):
    other = user.start("t2", "sh", "-c", "echo ready; cat", stdin=subprocess.PIPE)
    until_it_says(other, "ready")
    done = user.exec("t1", "ping", "-c3", "-i0.2", "t2")
    assert ", 0% packet loss" in done.stdout, done.stderr
    other.communicate("", timeout=60)
    assert other.returncode == 0


@pytest.mark.netns("setpriv")
@pytest.mark.parametrize(
    ("program", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/nowhere/nothing"], 127),
        (["/etc/hostname"], 126),
    ],
)
def test_exit_status_is_that_of_the_program(user, program, status):
    assert user.exec("t1", *program).returncode == status
    gone(user)


@pytest.mark.netns("setpriv")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(user, number):
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; kill $!; exit 9' {name}; sleep 300 & echo ready; wait"
    running = user.start("t1", "sh", "-c", script)
    until_it_says(running, "ready")
    running.send_signal(number)
    out, _ = running.communicate(timeout=60)
    assert (out.split(), running.returncode) == (["got"], 9)
    gone(user)


@pytest.mark.netns("setpriv", "dhclient")
def test_a_signal_before_the_program_runs_is_no_success(user):
    """Here it waits for an address that nobody gives."""
    running = user.start("t1", "true", options=["--dhcp"])
    wait_until(lambda: any("dhclient" in line for line in processes_of(user.host)), "the client")
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    gone(user)


@pytest.mark.netns("setpriv")
def test_what_is_ignored_and_what_is_closed_stays_so(user):
    """As nohup and daemons have it."""
    script = 'trap "" HUP; exec "$@" <&- >&- 2>&-'
    program = "cat /proc/self/status > $HOME/status; ls /proc/self/fd > $HOME/fds"
    argv = user.argv("exec", "--name", "t1", "--dev", "eth0", "--", "sh", "-c", program)
    done = user.host.run(["sh", "-c", script, "sh", *argv], env={"HOME": str(HOME)}, check=False)
    assert done.returncode == 0
    status = user.host.run(["cat", str(HOME / "status")]).stdout
    assert int(re.search(r"SigIgn:\s+(\w+)", status)[1], 16) == 1 << signal.SIGHUP - 1
    # Those of the redirection and of ls: nothing of ours is where the three were.
    assert user.host.run(["cat", str(HOME / "fds")]).stdout.split() == ["0", "1"]


SINK = """
import socket, sys, time
with socket.create_server((sys.argv[1], 9000)) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    print("ready", flush=True)
    peer, _ = server.accept()
    total = 0
    while data := peer.recv(8192):
        total += len(data)
        time.sleep(0.005)  # most of it waits in the kernel of the other end
    print(total, flush=True)
"""
SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000)) as sock:
    sock.sendall(bytes(1_000_000))
"""


@pytest.mark.netns("setpriv")
def test_what_the_program_has_sent_arrives_though_it_has_ended(user, lan):
    address = ipv4(lan, "pc1")
    sink = lan.members["pc1"].popen(
        [sys.executable, "-c", SINK, address], stdout=subprocess.PIPE, text=True
    )
    until_it_says(sink, "ready")
    done = user.exec("t1", sys.executable, "-c", SOURCE, address)
    assert done.returncode == 0, done.stderr
    out, _ = sink.communicate(timeout=60)
    assert out == "1000000\n"


@pytest.mark.netns("setpriv")
def test_what_runs_in_the_background_ends_with_the_program(user):
    done = user.exec("t1", "sh", "-c", "setsid sleep 300 > /dev/null 2>&1 & exit 3")
    assert done.returncode == 3
    gone(user)


@pytest.mark.netns("setpriv", "ping")
@pytest.mark.parametrize("victim", ["vswitch exec", "vswitch.namespaces.agent"])
def test_kill_9_leaves_nothing(user, lan, victim):
    script = "setsid sleep 300 & echo ready; exec ping -i0.2 pc1"
    running = user.start("t1", "sh", "-c", script)
    until_it_says(running, "ready")
    found = user.host.run(["pgrep", "-o", "-u", str(UID), "-f", "--", f"-m {victim}"]).stdout
    os.kill(int(found), signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode != 0
    gone(user)
    assert user.exec("t1", "true").returncode == 0


@pytest.mark.netns("setpriv")
def test_the_terminal_is_the_programs(user):
    """Ctrl-C on it reaches the program, and the member stays as long as the program does."""
    primary, secondary = pty.openpty()
    script = "trap 'echo got' INT; test -t 0 && echo ready; read line; read line; echo $line; tty"
    argv = user.argv("exec", "--name", "t1", "--", "sh", "-c", script)
    leader = "import os,fcntl,termios,sys;fcntl.ioctl(0,termios.TIOCSCTTY,0);"
    leader += "os.execvp(sys.argv[1],sys.argv[1:])"
    with user.host.popen(
        [sys.executable, "-c", leader, *argv],
        env={"HOME": str(HOME)},
        **dict.fromkeys(("stdin", "stdout", "stderr"), secondary),
    ) as running:
        os.close(secondary)
        said = read_until(primary, "ready")
        os.write(primary, b"\x03")
        said += read_until(primary, "got")
        os.write(primary, b"first\nword\n")
        said += read_until(primary, "/dev/")
        running.wait(60)
    os.close(primary)
    assert said.count("got") == 1
    assert running.returncode == 0
    gone(user)


def read_until(fd, word):
    said = ""
    while word not in said:
        said += os.read(fd, 4096).decode(errors="replace")
    return said


@pytest.mark.netns("setpriv")
def test_shell_is_the_users(user):
    argv = user.argv("exec", "--name", "t1", "--shell")
    done = user.host.run(
        argv,
        input=f"cat /sys/class/net/{DEV}/mtu\nexit 5\n",
        env={"HOME": str(HOME), "SHELL": "/bin/sh"},
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == (["1500"], 5), done.stderr


@pytest.mark.netns("setpriv", "ping")
def test_kept_member_stays_until_a_signal(user, lan):
    running = user.start("t1", "sh", "-c", "exit 4", options=["--keep"])
    until_it_says(running, "stays until Ctrl-C")
    reach(lan.members["pc1"], ipv4(lan, "t1"))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 4
    gone(user)


@pytest.fixture(scope="module")
def leases(lan):
    """A DHCP server on the LAN."""
    server = lan.members["pc1"]
    server.call(netlink.add_address, DEV, f"{LEASED}.1/24")
    serve_leases(server, LEASED)


LEASE = f"ip -br -4 address; ip route; cat /etc/resolv.conf; ping -c1 {LEASED}.1"


def leased(done):
    assert f" {LEASED}.1" in done.stdout, done.stderr
    assert f"default via {LEASED}.1" in done.stdout
    assert ", 0% packet loss" in done.stdout


@pytest.mark.netns("setpriv", "dnsmasq", "udhcpc", "ip", "unshare")
def test_address_by_the_dhcp_client_of_busybox(user, leases):
    hide = 'for at in $(command -v dhclient); do mount --bind /dev/null $at; done; exec "$@"'
    script = f"{LEASE}; pgrep -u {UID} -x udhcpc"  # which stays, to renew
    argv = user.argv("exec", "--name", "t1", "--dhcp", "--", "sh", "-c", script)
    done = user.host.run(
        ["unshare", "-m", "sh", "-c", hide, "sh", *argv], env={"HOME": str(HOME)}, check=False
    )
    leased(done)
    assert done.returncode == 0
    gone(user)


@pytest.mark.netns("setpriv", "dnsmasq", "dhclient", "ip")
def test_address_by_dhcp_with_routes_and_name_server(user, leases):
    leased(user.exec("t1", "sh", "-c", LEASE, options=["--dhcp"]))
    # A client that the user starts himself.
    client = ["dhclient", "-4", "-1", "-v", "-sf", "/bin/true", DEV]
    done = user.exec("t1", *client, options=["--address", "none"])
    assert f"bound to {LEASED}.1" in done.stdout + done.stderr
    gone(user)


@pytest.mark.netns("setpriv", "avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon")
def test_mdns_both_ways(user):
    """Two users' networks with an avahi-daemon each: one offers a printer, the other finds it."""
    publish = avahi("t2") + "exec avahi-publish -s printer _ipp._tcp 631"
    publish = user.start("t2", "sh", "-c", publish, options=["--root"])
    until_it_says(publish, "Established under name")
    browse = avahi("t1") + "until avahi-browse -rpt _ipp._tcp | grep ^=; do sleep 0.3; done"
    done = user.exec("t1", "sh", "-c", browse, options=["--root"])
    assert ";printer;" in done.stdout, done.stderr
    assert ";t2.local;" in done.stdout
    publish.send_signal(signal.SIGTERM)
    publish.communicate(timeout=60)
    gone(user)


def avahi(name):
    """Shell commands that start a bus and an avahi-daemon of this network."""
    place = f"$HOME/{name}"
    return f"""
mount -t tmpfs none /run; mkdir /run/avahi-daemon
mkdir -p {place}
for file in passwd group; do
    sed 's/^avahi:x:[0-9]*/avahi:x:0/; s/^avahi:x:0:[0-9]*:/avahi:x:0:0:/' /etc/$file \\
        > {place}/$file
    mount --bind {place}/$file /etc/$file
done
cat > {place}/bus.conf <<END
<busconfig><listen>unix:path={place}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/>
<allow receive_sender="*"/><allow user="*"/></policy></busconfig>
END
rm -f {place}/bus
dbus-daemon --config-file={place}/bus.conf --nofork --nosyslog > {place}/bus.log 2>&1 &
export DBUS_SYSTEM_BUS_ADDRESS=unix:path={place}/bus
until [ -S {place}/bus ]; do sleep 0.1; done
printf '[server]\\nhost-name={name}\\nallow-interfaces={DEV}\\nuse-ipv6=no\\n' > {place}/avahi.conf
avahi-daemon --file={place}/avahi.conf --no-drop-root --no-chroot --no-rlimits \\
  > {place}/avahi.log 2>&1 &
until grep -q 'startup complete' {place}/avahi.log; do sleep 0.1; done
"""


@pytest.mark.netns("setpriv")
def test_without_namespaces_one_line_names_the_setting(user):
    limit = "/proc/sys/user/max_user_namespaces"
    host = user.host
    # In a user namespace of its own, where that setting is its own too.
    argv = ["unshare", "-Ur", "sh", "-c", f'echo 0 > {limit} && exec "$@"', "sh"]
    state = HOME / ".local/state/vswitch"
    argv += [sys.executable, "-m", "vswitch", "exec", "--name", "t1", "--state", str(state)]
    argv += ["--", "true"]
    done = host.run(["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *argv],
                    env={"HOME": str(HOME)}, check=False)  # fmt: skip
    assert done.returncode == ExitCode.PRIVILEGE, done.stderr
    (line,) = done.stderr.splitlines()
    assert "user.max_user_namespaces=15000" in line


@pytest.mark.netns("setpriv", "unshare")
def test_without_a_readable_tun_one_line_says_so(user):
    hide = f"mknod /mnt/none c 10 200 && chmod 600 /mnt/none && mount --bind /mnt/none {TUN} && "
    argv = user.argv("exec", "--name", "t1", "--", "true")
    done = user.host.run(
        ["unshare", "-m", "sh", "-c", hide + 'exec "$@"', "sh", *argv],
        env={"HOME": str(HOME)},
        check=False,
    )
    assert done.returncode == ExitCode.PRIVILEGE, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cannot open /dev/net/tun: Permission denied" in line
    assert "chmod 666 /dev/net/tun" in line
