"""Questions to a name server that is out of reach: the kernel refuses them at once.

 7449   to 10.77.0.1, port 53, by UDP or TCP   ─▶ unreachable

Who asks need not wait for an answer that cannot come: it has an error before its packet is made. No
frame is taken from the interface, and what else goes to that address is not concerned. A rule is
of no interface and stays when a process is killed, so whoever makes it writes that down first. What
is ours is known by its protocol.

Plain blocking functions. Errors: those of `netlink.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from vswitch.devices.netlink import changes, open_netlink
from vswitch.devices.routing import FAMILIES, PINNED

PROTOCOL: Final = 75  # of these rules: a number that nobody else has (linux/rtnetlink.h)
PRIORITY: Final = PINNED - 1  # before whatever else leads there
_PORTS: Final = "53:53"


def refuse_questions(servers: Collection[str]) -> None:
    """Have whoever asks one of these addresses told that it is unreachable."""
    with open_netlink("refuse questions to a name server") as ipr:
        for server in servers:
            changes(ipr.rule, "add", **_rule(server))


def allow_questions(servers: Collection[str]) -> None:
    """As it was; whether or not they are refused. Where they are not it takes no privilege."""
    with open_netlink("allow questions to a name server") as ipr:
        for family in {FAMILIES[_version(server)] for server in servers}:
            for message in ipr.get_rules(family=family):
                if message.get("protocol") == PROTOCOL and message.get("dst") in servers:
                    changes(ipr.rule, "del", **_rule(message.get("dst")))


def _rule(server: str) -> dict[str, Any]:
    return {
        "family": FAMILIES[_version(server)],
        "priority": PRIORITY,
        "protocol": PROTOCOL,
        "dst": server,
        "dport_range": _PORTS,
        "action": "unreachable",
    }


def _version(server: str) -> int:
    return 6 if ":" in server else 4
