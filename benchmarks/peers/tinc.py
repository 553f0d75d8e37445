"""tinc in switch mode; its nodes know only S, and are told not to seek each other directly."""

from __future__ import annotations

import functools

from benchmarks.bed import DEVICE, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]


def _start(bed: Bed) -> None:
    addresses = {"s": f"Address = {bed.s_underlay}\n", "a": "", "b": ""}
    public = {}
    for role in "sab":
        host, directory = bed.host(role), bed.directory(role)
        (directory / "hosts").mkdir()
        key = str(directory / "rsa_key.priv")
        host.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"])
        pem = host.run(["openssl", "rsa", "-in", key, "-RSAPublicKey_out"]).stdout
        public[role] = f"{addresses[role]}IndirectData = {'no' if role == 's' else 'yes'}\n{pem}"
    for role in "sab":
        directory = bed.directory(role)
        for other, text in public.items():
            (directory / "hosts" / other).write_text(text)
        to_switch = "" if role == "s" else "ConnectTo = s\n"
        (directory / "tinc.conf").write_text(
            f"Name = {role}\nMode = switch\nDeviceType = tap\nInterface = {DEVICE}\n{to_switch}"
            "AddressFamily = ipv4\nLocalDiscovery = no\n"
        )
        pidfile = f"--pidfile={directory / 'pid'}"
        bed.spawn(role, ["tincd", "-D", "-c", str(directory), pidfile])
    bed.address_device()


PEER = Peer(
    name="tinc",
    about="tinc 1.0, switch mode, its default cipher and digest",
    programs=("tincd", "openssl"),
    package="tinc openssl",
    version=functools.partial(version_of, "tincd", "--version"),
    start=_start,
)
