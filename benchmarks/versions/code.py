"""Which vswitch is measured: a checkout, and the interpreter that runs it.

A checkout runs with its own `.venv/bin/python` if it has one, otherwise with this interpreter, and
with its libraries; its packages come from the checkout in either case, and `known` sees to that.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.facts import ROOT, checkout_facts
from vswitch.lab.lan import Code

__all__ = ["code_of", "known"]

ASK = """\
import json, sys, transport, vswitch
print(json.dumps({"python": sys.version, "packages": [vswitch.__file__, transport.__file__]}))"""


def code_of(
    checkout: Path = ROOT, python: str | None = None, variables: Iterable[str] = ()
) -> Code:
    """`python` is a command with options, `variables` are NAME=VALUE."""
    own = checkout / ".venv" / "bin" / "python"
    command = shlex.split(python) if python else [str(own) if own.exists() else sys.executable]
    return Code(
        checkout.resolve(),
        (*command,),
        dict(each.partition("=")[::2] for each in variables),
    )


def known(code: Code) -> dict[str, Any]:
    """What a result says of it; ends the program if it does not run, or runs another checkout's."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), **code.environment}
    done = subprocess.run(
        [*code.python, "-c", ASK], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{code.checkout}: its vswitch cannot be imported: {done.stderr[-500:]}")
    said = json.loads(done.stdout)
    for file in said.pop("packages"):
        if not Path(file).resolve().is_relative_to(code.checkout):
            raise SystemExit(f"{code.checkout}: {shlex.join(code.python)} takes {file}")
    # Not the paths: where a checkout lies says nothing of it.
    return {**checkout_facts(code.checkout), **said, "variables": dict(code.variables)}
