"""`python -m vswitch` is `vswitch`."""

from __future__ import annotations

import sys

from vswitch.cli import main

if __name__ == "__main__":
    sys.exit(main())
