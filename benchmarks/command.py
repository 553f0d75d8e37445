"""What the commands of the benchmarks share: what they need, how they are told to stop."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

from benchmarks.peers.peer import find
from vswitch.lab import missing_for_lab

__all__ = ["check_machine", "name_of", "names_of", "stop_on_signal", "tell"]


def check_machine(who: str, tools: Mapping[str, str]) -> None:
    """Ends the program if there is no lab, no root, or one of the tools (program: package) not."""
    missing = missing_for_lab() + [
        f"{tool} (apt-get install {package})" for tool, package in tools.items() if not find(tool)
    ]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        raise SystemExit(f"{who}: missing: {', '.join(missing)}")


def stop_on_signal() -> None:
    """SIGTERM ends a run as Ctrl-C does: what has been measured is told."""
    signal.signal(signal.SIGTERM, _interrupt)


def name_of(known: Iterable[str]) -> Callable[[str], str]:
    """The type of an argument that is one of these names, also where there may be none or many."""

    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"no {text}: there are {', '.join(known)}")
        return text

    return name


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an option that takes some of these names, with commas between."""
    name = name_of(known)
    return lambda text: [name(each) for each in text.split(",")]


def tell(text: str) -> None:
    """Progress, which is no part of the result."""
    print(text, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
