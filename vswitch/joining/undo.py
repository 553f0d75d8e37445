"""What a join has changed of its host and has to undo, kept in a file while it is so.

The next start finds the file of one that was killed, undoes what it says, and removes it. What was
before the machine was started anew is gone by itself.

Plain blocking functions. Error contract: `VswitchError` for a file that cannot be written or read;
`ConfigError` for one that this program has not written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from vswitch.errors import ConfigError
from vswitch.state import file_error, write_file

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def keep(path: Path, changes: dict[str, Any]) -> None:
    """Write down what is about to be changed."""
    write_file(path, json.dumps({"boot": _boot(), **changes}).encode())


def left_behind(path: Path) -> dict[str, Any] | None:
    """What a process that was killed has changed and nobody has undone; None for nothing."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error("cannot read", path, error) from None
    try:
        changes = json.loads(text)
        if not isinstance(changes, dict):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{path}: not what vswitch has written: undo what a killed join has left (see "
            "`ip rule`, `nft list tables`), and remove the file"
        ) from None
    return changes if changes.get("boot") == _boot() else None


def forget(path: Path) -> None:
    """It is undone."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a disk that cannot be written says so of files that are not there
        if path.exists():
            raise file_error("cannot remove", path, error) from None


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:  # a system that does not tell
        return ""
