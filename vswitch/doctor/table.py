"""The one list of findings that there may be: how bad each is, what it means, and what to do.

docs/troubleshooting.md is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from attrs import frozen


class Severity(StrEnum):
    """`problem`: something does not work; `warning`: it will not, or works badly; `note`."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"


@frozen
class Kind:
    """One line of the table: a finding that there may be."""

    id: str
    severity: Severity
    title: str
    remedy: str


_P, _W, _N = Severity.PROBLEM, Severity.WARNING, Severity.NOTE
_KINDS: Final = (
    # The way to the switch
    Kind(
        "name-unresolved",
        _P,
        "The switch's name does not resolve",
        "correct the name, or mend this host's name servers (`getent hosts NAME`); an invite made "
        "with `--public ADDRESS` needs none",
    ),
    Kind(
        "unreachable",
        _P,
        "Nothing can be sent to the switch",
        "look at routes and the local firewall: `ip route get ADDRESS`, `nft list ruleset`",
    ),
    Kind(
        "port-closed",
        _P,
        "Nobody listens at that place",
        "start `vswitch serve` there, or correct the port; a router must forward UDP to the switch",
    ),
    Kind(
        "no-answer",
        _P,
        "The switch does not answer by any path",
        "see that `vswitch serve` runs, that its UDP port is open in every firewall and forwarded "
        "by its router, and that `vswitch status` shows that key there: a switch is silent to who "
        "takes it for another",
    ),
    Kind(
        "not-a-member",
        _P,
        "The switch is there and does not know this member",
        "see `vswitch members` on the switch; `vswitch invite NAME` there makes another invite, "
        "with `--again` for one that is a member",
    ),
    Kind(
        "not-told",
        _N,
        "Whether a switch is there cannot be told without its key",
        "give the join string, or run this on a member: a switch is silent to who does not know "
        "its key",
    ),
    Kind(
        "udp-blocked",
        _W,
        "UDP does not pass, HTTPS does",
        "open the switch's UDP port on the way if you can: over HTTPS it works, with less speed",
    ),
    Kind(
        "https-unreachable",
        _W,
        "The HTTPS path does not open",
        "see that the TCP port is open and leads to the switch, and that a proxy lets it through "
        "(`--proxy`); where it begins and hangs, the way may swallow packets below 1,280 bytes; a "
        "member goes on by UDP where that passes",
    ),
    Kind(
        "wrong-key",
        _P,
        "What is there has another key than the switch",
        "join with a new invite of that switch if it was made anew; if it was not, another program "
        "answers in its place",
    ),
    Kind(
        "refused",
        _P,
        "The switch refuses this member",
        "ask its operator: `vswitch members` says who is revoked, `vswitch invite NAME` makes "
        "another invite; a host that was revoked runs `vswitch leave NAME` before it uses that",
    ),
    Kind(
        "no-common-handshake",
        _P,
        "One side requires post-quantum handshakes, the other has none",
        "`--pq auto` at both has them where both can; update whichever is the older, and its "
        "cryptography (`pip install --upgrade cryptography`)",
    ),
    Kind(
        "clock-wrong",
        _W,
        "The clock of this host is wrong",
        "set it, and keep it by NTP (`timedatectl`): invites and certificates expire by it",
    ),
    Kind(
        "mtu-black-hole",
        _W,
        "Long datagrams vanish on the way",
        "let the ICMP pass that tells of too large packets, or lower the interface's MTU to what "
        "was seen; vswitch has found the size and goes on with it",
    ),
    Kind(
        "mtu-low",
        _W,
        "The path takes small datagrams alone",
        "look for tunnels in tunnels on the way: speed suffers below 1,280 bytes",
    ),
    Kind(
        "nat-forgets",
        _W,
        "A router forgets this host sooner than it speaks",
        "have it remember UDP for 30 s or more (on Linux `sysctl "
        "net.netfilter.nf_conntrack_udp_timeout=30 "
        "net.netfilter.nf_conntrack_udp_timeout_stream=120`); until then what is sent to a silent "
        "member may wait for its next keepalive; a `ping -i 5` from it to the LAN keeps the way "
        "open",
    ),
    # What runs here
    Kind(
        "not-connected",
        _P,
        "A running join has no connection",
        "its reason is in `vswitch status` and in its log; findings about the path say more",
    ),
    Kind(
        "unit-failed",
        _P,
        "A service of vswitch has failed",
        "mend what its last lines say, then `systemctl restart UNIT`; exit code 2 is a wrong "
        "option or file, 4 a refusal, 5 a member that has not joined here, 7 a missing privilege",
    ),
    Kind(
        "hung-process",
        _P,
        "A process holds the control socket and does not answer",
        "end it (`ss -xlp` says which) and start it again; report what its log says",
    ),
    Kind(
        "port-taken",
        _P,
        "Another program has the switch's UDP port",
        "end it (`ss -ulpn` says which), or serve on another port with --listen",
    ),
    Kind(
        "fault",
        _P,
        "A fault of vswitch has ended something",
        "restart it, and report the lines of its log with that reference",
    ),
    Kind(
        "other-version",
        _W,
        "What runs is of another version than this command",
        "restart it after an upgrade; if several are installed, remove all but one",
    ),
    Kind(
        "switch-version",
        _N,
        "The switch is of another version than this member",
        "versions beside each other work together; upgrade both before you report a fault",
    ),
    Kind(
        "several-installed",
        _W,
        "Several versions of vswitch are installed",
        "remove all but one, or call the one that you mean by its path",
    ),
    Kind(
        "old-dependency",
        _P,
        "A library is missing or older than vswitch needs",
        "install vswitch again, with its libraries: `pip install --upgrade vswitch`",
    ),
    Kind(
        "slow-python",
        _N,
        "This Python was built without optimisation",
        "use the distribution's Python: it is some ten per cent quicker",
    ),
    # The host's interface
    Kind(
        "no-tun",
        _P,
        "There is no /dev/net/tun",
        "load the driver with `modprobe tun`; a container needs `--device /dev/net/tun`",
    ),
    Kind(
        "tun-denied",
        _P,
        "/dev/net/tun cannot be opened",
        "`chmod 666 /dev/net/tun`, which is usual; a container also has to be allowed the device",
    ),
    Kind(
        "no-net-admin",
        _N,
        "This user may not make a TAP",
        "`join` needs root or CAP_NET_ADMIN; `exec` and `proxy` need neither",
    ),
    Kind(
        "no-user-namespaces",
        _W,
        "Ordinary users get no namespaces here",
        "`exec` and `proxy` need them: see user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns",
    ),
    Kind(
        "subnet-collision",
        _P,
        "This host has another network with the LAN's addresses",
        "give one of them another subnet (`serve --subnet CIDR`): the host cannot tell them apart",
    ),
    Kind(
        "interface-changed",
        _W,
        "Another program has changed the interface",
        "find who manages it and keep it from that (examples/00-vswitch.network, "
        "examples/vswitch-networkmanager.conf)",
    ),
    Kind(
        "managed-interface",
        _W,
        "NetworkManager or systemd-networkd manages the interface",
        "install examples/00-vswitch.network in /etc/systemd/network (`networkctl reload`), or "
        "examples/vswitch-networkmanager.conf in /etc/NetworkManager/conf.d (`nmcli general "
        "reload`), which tell them to leave it alone",
    ),
    Kind(
        "no-offload",
        _N,
        "The interface has no offload",
        "leave `--offload off` out where no program on the interface needs it: speed is a multiple",
    ),
    Kind(
        "rp-filter",
        _W,
        "Strict reverse path filtering drops what comes by a route of the LAN",
        "`sysctl net.ipv4.conf.all.rp_filter=2`, which is loose, for all interfaces",
    ),
    Kind(
        "br-netfilter",
        _W,
        "The firewall drops frames of the bridge",
        "`sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`, or "
        "let them pass in FORWARD, with Docker by `iptables -I DOCKER-USER -i BRIDGE -o BRIDGE -j "
        "ACCEPT`",
    ),
    Kind(
        "firewall-drops",
        _P,
        "The firewall of this host drops the switch's port",
        "accept UDP to and from that port; `nft list ruleset`, or `iptables-legacy-save`, shows "
        "the rule",
    ),
    # Files
    Kind(
        "config-wrong",
        _P,
        "The configuration file of the switch is wrong",
        "mend it: `vswitch config check FILE` says all that is wrong. A switch that runs goes on "
        "with what it has read, and none starts",
    ),
    Kind(
        "saved-wrong",
        _P,
        "What was changed live and kept is wrong",
        "mend that place in `saved.toml`, or move the file away, which takes back all that was "
        "kept. A switch that runs goes on with what it has read, and none starts",
    ),
    Kind(
        "state-owner",
        _P,
        "The state directory cannot be used",
        "run as the user who owns it, give another with --state, and let nobody else write there "
        "(`chmod go-w`)",
    ),
    Kind(
        "key-exposed",
        _P,
        "Others can read a private key",
        "`chmod 600 FILE`; if others use this host, make a new key and a new invite",
    ),
    Kind(
        "disk-full",
        _P,
        "The disk of the state directory is full",
        "make room: members cannot be added, and addresses not be kept",
    ),
    # The doctor itself
    Kind(
        "probe-failed",
        _W,
        "Something could not be looked at",
        "run `vswitch doctor` as root, or look yourself; the rest of the findings stands",
    ),
)
TABLE: Final[Mapping[str, Kind]] = {each.id: each for each in _KINDS}
