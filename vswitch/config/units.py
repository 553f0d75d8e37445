"""The units of systemd that come with the package: their names, and the files that they go by."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BOOTED: Final = Path("/run/systemd/system")  # there where systemd is process 1: sd_booted(3)
SERVE: Final = "vswitch-serve.service"
JOINS: Final = "vswitch-join@*.service"
CONFIG: Final = Path("/etc/vswitch/vswitch.toml")
STATE: Final = Path("/var/lib/vswitch")
