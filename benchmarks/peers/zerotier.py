"""ZeroTier with no part of anyone else's: S is the root, relay and controller of A and B.

S is the one root of a moon that A and B follow, since the roots of ZeroTier's own planet are out
of reach, and has the network, in which A and B are authorized. All of the rest is as it comes: the
interface's MTU of 2800, which makes two datagrams of a full frame, the port, one thread, and the
cipher: AES-GMAC-SIV, where the processor has AES. Looking for port mappings, relays over TCP and
updates is off: none of it can be reached.
"""

from __future__ import annotations

import functools
import json
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.bed import A_ADDRESS, B_ADDRESS, DEVICE, PREFIX, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]

PORT = 9993
MTU = 2800
SETTINGS = {
    "portMappingEnabled": False,
    "allowTcpFallbackRelay": False,
    "softwareUpdate": "disable",
}
LAN = "10.99.0.0"


def _start(bed: Bed) -> None:
    homes = {role: bed.directory(role) for role in "sab"}
    nodes = {role: _identity(bed, role, home) for role, home in homes.items()}
    moon = _moon(bed, homes["s"])
    network = nodes["s"] + "000001"
    for role, home in homes.items():
        (home / "moons.d").mkdir()
        (home / "moons.d" / moon.name).write_bytes(moon.read_bytes())
        (home / "local.conf").write_text(json.dumps({"settings": SETTINGS}))
        (home / "devicemap").write_text(f"{network}={DEVICE}\n")
        bed.spawn(role, ["zerotier-one", "-U", f"-p{PORT}", str(home)])
        bed.wait(
            lambda role=role, home=home: bed.host(role).call(_answers, home),
            f"ZeroTier in {role}",
        )
    wanted = {
        "private": True,
        "v4AssignMode": {"zt": True},
        "routes": [{"target": f"{LAN}/{PREFIX}"}],
    }
    bed.s.call(_ask, homes["s"], f"controller/network/{network}", wanted)
    for role, address in (("a", A_ADDRESS), ("b", B_ADDRESS)):
        member = {"authorized": True, "ipAssignments": [address]}
        where = f"controller/network/{network}/member/{nodes[role]}"
        bed.s.call(_ask, homes["s"], where, member)
        bed.host(role).call(_ask, homes[role], f"network/{network}", {})


def _identity(bed: Bed, role: str, home: Path) -> str:
    """Make a key pair; the address that goes with it."""
    files = [str(home / "identity.secret"), str(home / "identity.public")]
    bed.host(role).run(["zerotier-idtool", "generate", *files])
    return (home / "identity.public").read_text().partition(":")[0]


def _moon(bed: Bed, home: Path) -> Path:
    """The signed file that names S as a root, and where it is."""
    said = bed.s.run(["zerotier-idtool", "initmoon", str(home / "identity.public")]).stdout
    moon = json.loads(said)
    moon["roots"][0]["stableEndpoints"] = [f"{bed.s_underlay}/{PORT}"]
    (home / "moon.json").write_text(json.dumps(moon))
    # It is written to where the program runs.
    bed.s.run(["sh", "-c", f"cd {home} && zerotier-idtool genmoon moon.json"])
    (made,) = home.glob("*.moon")
    return made


def _answers(home: Path) -> bool:
    try:
        return "address" in _ask(home, "status")
    except OSError:
        return False


def _ask(home: Path, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One question to the service of this host; `OSError` if there is no such answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-ZT1-Auth": (home / "authtoken.secret").read_text().strip()},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


PEER = Peer(
    name="zerotier",
    about=f"ZeroTier, its default cipher, S as moon and controller, MTU {MTU}",
    programs=("zerotier-one", "zerotier-idtool"),
    package="",
    source="ZeroTierOne (https://github.com/zerotier/ZeroTierOne)",
    version=functools.partial(version_of, "zerotier-one", "-v"),
    start=_start,
)
