"""Commands that show what happens until they are stopped: a reader that has gone is the end,
and no failure. `NotReachable` when the switch ends before; Ctrl-C is for the caller.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vswitch.cli.common import answer, drop_stdout
from vswitch.errors import ExitCode, NotReachable
from vswitch.management.client import open_stream

__all__ = ["follow"]


def follow(path: Path, verb: str, show: Callable[[bytes], str], **args: Any) -> int:
    """Answer with each line that the switch at this control socket gives, as `show` writes it."""
    try:
        with open_stream(path, verb, **args) as stream:
            for line in stream.lines(sys.stdout.fileno()):
                answer(show(line))
    except BrokenPipeError:  # enough has been seen
        drop_stdout()
        return ExitCode.OK
    raise NotReachable("the switch has stopped, and what it tells with it")
