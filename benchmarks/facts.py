"""What a result must say about where it comes from: machine, checkout, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer
from benchmarks.peers.peer import version_of

__all__ = ["ROOT", "checkout_facts", "facts"]

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("cryptography", "trio", "pyroute2")


def facts(peers: Iterable[Peer]) -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "cpu": _field("/proc/cpuinfo", "model name"),
            "cores": os.cpu_count(),
            "memory": _field("/proc/meminfo", "MemTotal"),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "aes": " aes " in f" {_field('/proc/cpuinfo', 'flags')} ",
        },
        **checkout_facts(ROOT),
        "python": sys.version.split()[0],
        "libraries": {name: _version(name) for name in LIBRARIES},
        "peers": {peer.name: {"about": peer.about, "version": peer.version()} for peer in peers},
        "tools": {
            "iperf3": version_of("iperf3", "--version"),
            "ping": version_of("ping", "-V"),
            "ethtool": version_of("ethtool", "--version"),
        },
    }


def checkout_facts(root: Path) -> dict[str, Any]:
    """Its commit, and how many files were changed since (None: it has no history)."""
    status = _git(root, "status", "--porcelain")
    return {
        "commit": _git(root, "rev-parse", "HEAD") or "unknown",
        "changed_files": None if status is None else len(status.splitlines()),
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _git(root: Path, *argv: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *argv], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # there is no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None
