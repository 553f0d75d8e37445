"""What makes a host the gateway to what is behind it: it forwards, and sends in its own name.

    refuse_second(...)           one member of a host can be a gateway
    before = prepare(...)        what the host's settings are; kept, for `restore`
    open_gateway(...)            forwarding on; a table `vswitch_NAME` of nftables
    shown(...)                   the table as nftables has it: whether somebody has changed it
    restore(before)              as if nothing had been

What comes from the LAN goes to the networks that are named, and nowhere else: for the way out to
whatever is in none of the host's own networks. It leaves in the name of this host, so that nobody
behind needs a route back. Answers come back; nothing else that this host forwards only because of
us does: where it forwarded before, it goes on to.

IPv6 is forwarded by all interfaces of a host or by none, and a host that forwards hears no router
unless it is told to: interfaces that did are told so for as long.

Plain blocking functions. Error contract: `PrivilegeError` and `VswitchError`, with what to do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import collapse_addresses, ip_network
from pathlib import Path
from typing import Final

from vswitch.config.addressing import Network
from vswitch.errors import PrivilegeError, VswitchError

_NET: Final = Path("/proc/sys/net")
_FORWARDS: Final = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
# What changes with them: the kernel sets the first for all interfaces, and redirects with it.
_ALSO: Final = {
    4: ("ipv4/conf/*/forwarding", "ipv4/conf/*/accept_redirects"),
    6: ("ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra"),
}
_HEARS, _HEARS_THOUGH_IT_FORWARDS = "1", "2"  # of accept_ra
_PREFIX: Final = "vswitch_"  # of our tables
_TIMEOUT: Final = 10.0  # seconds for nft, which takes milliseconds
# Where no router leads: what is not to be reached through a way out, whatever the host has.
_NEVER: Final = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32"),
            *("fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"),
        ),
    )
)

Settings = Mapping[str, str]  # values by path below /proc/sys/net


def table_of(name: str) -> str:
    """The table of a member: nftables takes no dash in a name, and members' have no underscore."""
    return f"{_PREFIX}{name.replace('-', '_')}"


def prepare(versions: Iterable[int]) -> dict[str, str]:
    """All settings that `open_gateway` changes, and what they are now."""
    found = {}
    for version in versions:
        for pattern in (_FORWARDS[version], *_ALSO[version]):
            for path in sorted(_NET.glob(pattern)):
                with suppress(OSError):  # an interface that goes
                    found[str(path.relative_to(_NET))] = path.read_text().strip()
    return found


def refuse_second(name: str) -> None:
    """`VswitchError` if another member of this host is a gateway: what one finds to put back would
    be what the other has made of it, and each lets nothing else pass.
    """
    ours, tables = table_of(name), (line.split() for line in _nft("list tables inet").splitlines())
    for *_, table in filter(None, tables):
        if table.startswith(_PREFIX) and table != ours:
            raise VswitchError(
                f"another member of this host is a gateway already, or has been killed: table "
                f"{table} of nft; one that was killed puts all back when it is started again"
            )


def open_gateway(
    name: str, dev: str, networks: Iterable[Network], apart: Iterable[Network], before: Settings
) -> None:
    """Forward what comes from the LAN to these networks.

    Args:
        name: of the member.
        dev: its interface to the LAN.
        networks: behind this host; the whole of a family is the way out.
        apart: networks to which that is no way: those of the host.
        before: what `prepare` has found, when nothing of ours was there.
    """
    networks = tuple(networks)
    _nft(ruleset(name, dev, networks, apart, before))
    for version in sorted({network.version for network in networks}):
        if before.get(_FORWARDS[version]) != "0":
            continue
        if version == 6:
            for key, value in before.items():
                if key.endswith("/accept_ra") and value == _HEARS and f"/{dev}/" not in key:
                    _write(key, _HEARS_THOUGH_IT_FORWARDS)
        if not _write(_FORWARDS[version], "1"):
            raise VswitchError(f"{_NET / _FORWARDS[version]} is not there: no IPv{version} here")


def shown(name: str) -> str:
    """The table, as nftables tells it; "" where there is none, or where that cannot be told."""
    try:
        return _nft(f"list table inet {table_of(name)}")
    except VswitchError:
        return ""


def restore(name: str, before: Settings) -> None:
    """Undo `open_gateway`; what is gone meanwhile does not matter."""
    first = set(_FORWARDS.values())  # which sets others, that may have been otherwise
    for key in sorted(before, key=lambda key: (key not in first, key)):
        path = _NET / key
        with suppress(FileNotFoundError):
            if path.read_text().strip() != before[key]:
                _write(key, before[key])
    _nft(_without(table_of(name)))


def known_settings(changes: Mapping[str, object]) -> dict[str, str]:
    """Those to be put back, of what a file says: settings that this module changes, and that are
    there. Raises nothing.
    """
    said = changes.get("settings")
    known = prepare((4, 6))
    if not isinstance(said, dict):
        return {}
    return {key: said[key] for key in known if said.get(key) in ("0", "1", "2")}


def ruleset(
    name: str, dev: str, networks: Iterable[Network], apart: Iterable[Network], before: Settings
) -> str:
    """The table, in the language of `nft`. Pure."""
    networks, apart, table = tuple(networks), tuple(apart), table_of(name)
    lines = ["ct state established,related accept", f'iifname "{dev}" oifname "{dev}" drop']
    for version, word in ((4, "ip"), (6, "ip6")):
        ours = [each for each in networks if each.version == version]
        if inner := [each for each in ours if each.prefixlen]:
            lines.append(f'iifname "{dev}" {word} daddr {_set(inner)} accept')
        if len(ours) > len(inner):
            kept = [each for each in (*apart, *_NEVER) if each.version == version]
            lines.append(f'iifname "{dev}" {word} daddr {_set(kept)} drop')
            lines.append(f'iifname "{dev}" meta nfproto ipv{version} accept')
    lines.append(f'iifname "{dev}" drop')
    for version in sorted({each.version for each in networks}):
        if before.get(_FORWARDS[version]) == "0":
            lines.append(_closing(version, before))
    rules = "\n".join(f"    {line}" for line in lines)
    return f"""{_without(table)}
table inet {table} {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
{rules}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{dev}" oifname != "{dev}" masquerade
  }}
}}
"""


def _closing(version: int, before: Settings) -> str:
    """What keeps everything else from being forwarded, where it was not before."""
    if version == 6:
        return "meta nfproto ipv6 drop"
    ends = "/forwarding"
    open_already = [
        key.split("/")[2]
        for key, value in before.items()
        if key.startswith("ipv4/conf/") and key.endswith(ends) and value != "0"
    ]
    devs = [each for each in open_already if each not in ("all", "default")]
    but = ", ".join(f'"{each}"' for each in sorted(devs))
    return f"meta nfproto ipv4 {f'iifname != {{ {but} }} ' if but else ''}drop"


def _set(networks: Iterable[Network]) -> str:
    """Networks of one family, of which a set takes none that lie in one another."""
    outer: Iterable[Network] = collapse_addresses(networks)  # type: ignore[type-var]
    return f"{{ {', '.join(map(str, outer))} }}"


def _without(table: str) -> str:
    # One that is not there cannot be deleted: it is made, for that.
    return f"add table inet {table}\ndelete table inet {table}"


def _nft(script: str) -> str:
    """What it says."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise VswitchError(
            "a gateway needs the program nft: install nftables, or join without --advertise"
        ) from None
    except subprocess.TimeoutExpired:
        raise VswitchError(f"nft has not ended within {_TIMEOUT:g} s") from None
    if done.returncode:
        said = next(iter(done.stderr.strip().splitlines()), "it does not say why")
        kind = PrivilegeError if "not permitted" in said else VswitchError
        raise kind(f"nft refuses the table of the gateway: {said}")
    return done.stdout


def _write(key: str, value: str) -> bool:
    """Whether there is such a setting."""
    try:
        (_NET / key).write_text(value)
    except FileNotFoundError:
        return False
    except OSError as error:
        kind = PrivilegeError if isinstance(error, PermissionError) else VswitchError
        raise kind(
            f"cannot set {_NET / key} to {value}: {error.strerror}; run as root, and in a "
            "container let it change its settings"
        ) from None
    return True
