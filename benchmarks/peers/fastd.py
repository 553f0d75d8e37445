"""fastd in TAP mode; S forwards between its peers."""

from __future__ import annotations

import functools

from benchmarks.bed import DEVICE, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEERS"]

PORT = 10000
# What is left of 1500 beside IPv4, UDP, the inner Ethernet header and fastd's 24 bytes.
MTU = 1434
METHODS = ("null", "salsa2012+umac", "aes128-gcm")


def _key(bed: Bed) -> tuple[str, str]:
    """A secret and its public key."""
    said = bed.s.run(["fastd", "--generate-key"]).stdout.split()
    return said[said.index("Secret:") + 1], said[said.index("Public:") + 1]


def _start(bed: Bed, method: str) -> None:
    keys = {role: _key(bed) for role in "sab"}
    common = f'log level warn;\nmode tap;\nmtu {MTU};\nmethod "{method}";\ninterface "{DEVICE}";\n'
    members = "".join(f'peer "{role}" {{ key "{keys[role][1]}"; }}\n' for role in "ab")
    switch = f'peer "s" {{ key "{keys["s"][1]}"; remote {bed.s_underlay}:{PORT}; }}\n'
    texts = {
        "s": f"bind {bed.s_underlay}:{PORT};\nforward yes;\n{members}",
        "a": switch,
        "b": switch,
    }
    for role, text in texts.items():
        path = bed.directory(role) / "fastd.conf"
        path.write_text(f'{common}secret "{keys[role][0]}";\n{text}')
        path.chmod(0o600)
        bed.spawn(role, ["fastd", "--config", str(path)])
        # Members that find no switch at first try again only after 20 seconds.
        bed.wait_device(role)
    bed.address_device()


PEERS = tuple(
    Peer(
        name=f"fastd-{method.partition('+')[0]}",
        about=f"fastd, method {method}, MTU {MTU}",
        programs=("fastd",),
        package="fastd",
        version=functools.partial(version_of, "fastd", "--version"),
        start=functools.partial(_start, method=method),
        encrypted=method != "null",
    )
    for method in METHODS
)
