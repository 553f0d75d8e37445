"""On which line of a file a problem is: messages of ours begin with a path and a key of TOML.

    /etc/vswitch.toml: port.pc1.isolated = 3: must be on or off
    /etc/vswitch.toml:12: port.pc1.isolated = 3: must be on or off

A key is on the line after which the file has it for the first time, read from its beginning, so
that nothing but a reader of TOML decides. No errors: where it cannot be told, nothing is said.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, Final

MAX_LINES: Final = 2000  # each is read again with all before it
_PLACE: Final = re.compile(r"(?:\"(?:[^\"\\]|\\.)*\"|[^\s:=\"])+")
_UNKNOWN: Final = re.compile(r"(?:([^:]*): )?unknown (?:option|table) (\S+):")
_PART: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|[^.\[\]]+|\[\d+\]")


def line_of(text: str, message: str) -> int | None:
    """The line that `message` is about, which begins with a key; None where that is not told."""
    found = _PLACE.match(message)
    if found is None:
        return None
    parts: list[str | int] = [
        int(each[1:-1]) - 1 if each.startswith("[") else _plain(each)
        for each in _PART.findall(found[0])
    ]
    unknown = _UNKNOWN.match(message)
    if unknown is not None:
        parts = [*([] if unknown[1] is None else parts), unknown[2]]
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        return None
    before = 0  # lines of what could be read
    for number in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # within a value of several lines
        if _has(tables, parts):
            return before + 1
        before = number
    return None


def _plain(part: str) -> str:
    """A key without its quotes."""
    try:
        return str(json.loads(part)) if part.startswith('"') else part
    except ValueError:
        return part


def _has(value: Any, parts: list[str | int]) -> bool:
    for part in parts:
        if isinstance(part, int):
            if not isinstance(value, list) or len(value) <= part:
                return False
        elif not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
