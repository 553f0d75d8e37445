"""OpenVPN in TAP mode, AES-256-GCM; S forwards between its clients."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.bed import DEVICE, Bed
from benchmarks.peers.peer import Peer, version_of
from vswitch.lab import Host

__all__ = ["PEER"]

PORT = 1194


def _certificate(host: Host, directory: Path, name: str) -> str:
    """Make a key and its certificate; the fingerprint by which the other side knows it."""
    key, certificate = str(directory / "key.pem"), str(directory / "cert.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", key, "-out", certificate, "-subj", f"/CN={name}"]
    host.run(["openssl", "req", "-x509", *kind, *files])
    said = host.run(["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"])
    return said.stdout.strip().partition("=")[2]


def _start(bed: Bed) -> None:
    prints = {role: _certificate(bed.host(role), bed.directory(role), role) for role in "sab"}
    common = ["openvpn", "--dev", DEVICE, "--dev-type", "tap", "--proto", "udp", "--verb", "1"]
    common += ["--data-ciphers", "AES-256-GCM", "--cert", "cert.pem", "--key", "key.pem"]
    common += ["--keepalive", "10", "60"]
    both = f"<peer-fingerprint>\n{prints['a']}\n{prints['b']}\n</peer-fingerprint>\n"
    fingerprints = bed.directory("s") / "members.conf"
    fingerprints.write_text(both)
    server = ["--mode", "server", "--tls-server", "--dh", "none", "--client-to-client"]
    server += ["--local", bed.s_underlay, "--port", str(PORT), "--config", str(fingerprints)]
    bed.spawn("s", [*common, *server])
    # A TAP that is down takes no frames, and the server then forwards no broadcasts either.
    bed.raise_device("s")
    client = ["--client", "--remote", bed.s_underlay, str(PORT), "--nobind"]
    client += ["--peer-fingerprint", prints["s"]]
    for role in "ab":
        bed.spawn(role, [*common, *client])
    bed.address_device()


PEER = Peer(
    name="openvpn",
    about="OpenVPN, TAP, AES-256-GCM, client-to-client",
    programs=("openvpn", "openssl"),
    package="openvpn openssl",
    version=functools.partial(version_of, "openvpn", "--version"),
    start=_start,
)
