"""SoftEther: a hub in S, to which the clients in A and B make one TLS connection each.

All is as a new server and `AccountCreate` have it: one TCP connection, no compression, the best
cipher that both know, and UDP in its place once it has passed for ten seconds ("UDP acceleration",
ChaCha20-Poly1305 in version 5.02); the measurement begins then. The interface keeps its MTU of
1500: SoftEther lowers the MSS of TCP inside, and other frames that do not fit are fragmented.

Its files have fixed places below /var and /run, in Debian's package as in a build that was told so
(SE_DBDIR, SE_LOGDIR, SE_PIDDIR); each host has its own.
"""

from __future__ import annotations

import functools
import re

from benchmarks.bed import Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER", "by_udp"]

PORT = 5555
NIC = "lan0"  # the interface is then called vpn_lan0
HUB = "DEFAULT"  # which a new server has
PASSWORD = "benchmark"  # of users that live for a minute
DIRECTORIES = ("/run", "/var/lib", "/var/log")


def _start(bed: Bed) -> None:
    for role in "sab":
        bed.own(role, *DIRECTORIES)
        bed.host(role).run(["mkdir", *(f"{place}/softether" for place in DIRECTORIES)])
        # In the foreground: as a service it is a child of a process that starts it again.
        bed.spawn(role, ["vpnserver" if role == "s" else "vpnclient", "start", "--foreground"])
    bed.device = f"vpn_{NIC}"
    _wait(bed, "s", "ServerInfoGet")
    for role in "ab":
        _tell(bed, "s", "UserCreate", role, "/GROUP:none", "/REALNAME:none", "/NOTE:none")
        _tell(bed, "s", "UserPasswordSet", role, f"/PASSWORD:{PASSWORD}")
        _wait(bed, role, "VersionGet")
        _tell(bed, role, "NicCreate", NIC)
        server = [f"/SERVER:{bed.s_underlay}:{PORT}", f"/HUB:{HUB}"]
        _tell(bed, role, "AccountCreate", HUB, *server, f"/USERNAME:{role}", f"/NICNAME:{NIC}")
        secret = [f"/PASSWORD:{PASSWORD}", "/TYPE:standard"]
        _tell(bed, role, "AccountPasswordSet", HUB, *secret)
        _tell(bed, role, "AccountConnect", HUB)
    bed.address_device()
    for role in "ab":
        bed.wait(lambda role=role: _by_udp(bed, role), f"UDP between S and {role}")


def _argv(role: str, *command: str) -> list[str]:
    kind = ["/SERVER", f"/HUB:{HUB}"] if role == "s" else ["/CLIENT"]
    return ["vpncmd", f"localhost:{PORT}" if role == "s" else "localhost", *kind, "/CMD", *command]


def _tell(bed: Bed, role: str, *command: str) -> None:
    bed.host(role).run(_argv(role, *command))


def by_udp(status: str) -> bool:
    """Whether frames travel by UDP, from what AccountStatusGet said."""
    return re.search(r"^UDP Acceleration is Active *\|Yes", status, re.MULTILINE) is not None


def _by_udp(bed: Bed, role: str) -> bool:
    return by_udp(bed.host(role).run(_argv(role, "AccountStatusGet", HUB)).stdout)


def _wait(bed: Bed, role: str, question: str) -> None:
    """Wait until the service of this host answers."""
    host = bed.host(role)
    bed.wait(
        lambda: host.run(_argv(role, question), check=False).returncode == 0, f"SoftEther in {role}"
    )


PEER = Peer(
    name="softether",
    about="SoftEther, one TLS connection or UDP in its place, hub in S, MTU 1500",
    programs=("vpnserver", "vpnclient", "vpncmd"),
    package="softether-vpnserver softether-vpnclient softether-vpncmd",
    version=functools.partial(version_of, "vpncmd", "/?"),
    start=_start,
)
