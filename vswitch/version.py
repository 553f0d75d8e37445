"""Which version this is, for `--version`, status and what peers are told."""

from __future__ import annotations

import importlib.metadata

try:
    VERSION = importlib.metadata.version("vswitch")
except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0+unknown"

SOFTWARE = f"vswitch {VERSION}"
