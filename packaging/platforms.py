#!/usr/bin/env python3
"""Which platforms have wheels of all that vswitch needs, so that it installs without a compiler.

    packaging/platforms.py WHEEL

It asks the package index and runs nothing. It prints a Markdown table, in which a cell is `yes`, or
the first package without a wheel for the platform. How new a C library they need is not looked at.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

GLIBC = range(5, 42)  # 2.5 to 2.41
MUSL = range(1, 3)  # 1.1 and 1.2
MACHINES = ("x86_64", "aarch64", "armv7l", "riscv64", "ppc64le", "s390x")
PYTHONS = {  # pip's names of the interpreter, its version and its binary interface
    "CPython 3.11": ("cp", "3.11", []),
    "CPython 3.14": ("cp", "3.14", []),
    "PyPy 3.11": ("pp", "3.11", ["pypy311_pp73", "none"]),
}


def platforms() -> dict[str, list[str]]:
    """The tags of wheels that each platform takes."""
    found = {}
    for machine in MACHINES:
        old = [f"{name}_{machine}" for name in ("linux", "manylinux1", "manylinux2010")]
        many = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
        found[f"{machine}, glibc"] = [*old, f"manylinux2014_{machine}", *many]
    for machine in MACHINES:
        found[f"{machine}, musl"] = [f"musllinux_1_{minor}_{machine}" for minor in MUSL]
    return found


def needed(wheel: Path) -> list[str]:
    """All that the wheel needs, its own requirements with their versions."""
    report = json.loads(pip("--ignore-installed", "--report", "-", str(wheel)).stdout)
    packages = {each["metadata"]["name"]: each["metadata"] for each in report["install"]}
    own = [each for each in packages.pop("vswitch")["requires_dist"] if "extra ==" not in each]
    direct = {re.match(r"[\w-]+", each)[0] for each in own}
    return [*own, *sorted(packages.keys() - direct)]


def missing(packages: list[str], tags: list[str], python: tuple[str, str, list[str]]) -> str | None:
    """The first package that has no wheel, or None if all have."""
    implementation, version, abis = python
    if implementation == "pp":  # which brings them itself
        packages = [each for each in packages if each not in ("cffi", "pycparser")]
    with tempfile.TemporaryDirectory() as target:
        # Each package by itself: conditions in requirements would be those of this host.
        done = pip(
            *("--no-deps", "--target", target),
            *("--implementation", implementation, "--python-version", version),
            *(f"--abi={abi}" for abi in abis),
            *(f"--platform={tag}" for tag in tags),
            *packages,
        )
    if done.returncode == 0:
        return None
    found = re.search(r"No matching distribution found for ([\w-]+)", done.stderr)
    if found is None:
        raise SystemExit(done.stderr)
    return found[1]


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`pip install` that installs nothing."""
    options = ["--quiet", "--dry-run", "--disable-pip-version-check", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "install", *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def main(argv: list[str] | None = None) -> None:
    """Ask for every platform and print what was said."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    packages = needed(parser.parse_args(argv).wheel)
    print("| | " + " | ".join(PYTHONS) + " |")
    print("|---" * (1 + len(PYTHONS)) + "|")
    for name, tags in platforms().items():
        answers = [missing(packages, tags, python) for python in PYTHONS.values()]
        cells = ["yes" if answer is None else f"no: {answer}" for answer in answers]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
