"""Probes of the services of this host: what systemd says of their units, and the files by which a
switch starts.

Blocking functions for worker threads, which change nothing. Where systemd does not run, no unit is
known, and the configuration file is looked for where the units have it. A file that is not there,
or that this user may not read, is no fact.

Error contract: `VswitchError` where systemctl gives no answer that can be read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from vswitch.config.options import ServeConfig
from vswitch.config.units import BOOTED, CONFIG, JOINS, SERVE, STATE
from vswitch.doctor.findings import ConfigurationFacts
from vswitch.doctor.host import output_of
from vswitch.errors import ConfigError
from vswitch.serving.configuration import Configuration, read_saved
from vswitch.serving.https import certificate_of
from vswitch.state import StateDir

Unit: TypeAlias = Mapping[str, str]  # its properties: systemctl(1)

_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts,ExecStart"
)
_EXITED, _KILLED, _DUMPED = "1", "2", "3"  # ExecMainCode is si_code of SIGCHLD: sigaction(2)


def known() -> list[Unit]:
    """The units of the switch and the members, as far as systemd has them."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not BOOTED.is_dir():
        return []
    said = output_of([systemctl, "show", "--no-pager", f"--property={_PROPERTIES}", SERVE, JOINS])
    blocks = (dict(_pairs(block)) for block in said.split("\n\n"))
    return [unit for unit in blocks if unit.get("LoadState") == "loaded" and "Id" in unit]


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


def failed(units: Sequence[Unit]) -> list[tuple[str, str]]:
    """Those that have failed, also if they are started again and again, and how."""
    found = []
    for unit in units:
        state = unit.get("ActiveState")
        waits = unit.get("SubState", "").startswith("auto-restart")
        if state == "failed" or waits:
            found.append((unit["Id"], _end(unit) + (", and is started again" if waits else "")))
        elif state == "activating" and unit.get("NRestarts", "0") != "0":
            found.append((unit["Id"], f"is started again, after {unit['NRestarts']} failures"))
    return found


def _end(unit: Unit) -> str:
    result, code, status = (
        unit.get(each, "") for each in ("Result", "ExecMainCode", "ExecMainStatus")
    )
    if code == _EXITED and result == "exit-code":
        return f"has ended with exit code {status}"
    if code in (_KILLED, _DUMPED):
        return f"was ended by signal {status} ({result})"
    return f"has failed ({result})"


def configuration(files: StateDir, units: Sequence[Unit]) -> ConfigurationFacts:
    """What is wrong with the configuration file of the switch, and with what is kept over it."""
    path: Path | None = CONFIG
    its_state = STATE
    for unit in units:
        if unit["Id"] == SERVE:
            called = unit.get("ExecStart", "").partition("argv[]=")[2].partition(" ; ")[0]
            options = dict(pairwise(called.replace("=", " ").split()))
            path = Path(options["--config"]) if "--config" in options else None
            its_state = Path(options.get("--state", STATE))
    if path is not None and not os.access(path, os.R_OK):
        path = None
    config = None if path is None else _wrong_config(path)
    if not os.access(files.saved, os.R_OK):
        return ConfigurationFacts(config=config)
    # Over another file, or none, it may be wrong where it is right over its own, or over flags.
    alone = path is None or config is not None or files.path != its_state
    saved = _wrong_saved(files, path, alone=alone)
    return ConfigurationFacts(config=config, saved=saved)


def _wrong_config(path: Path) -> str | None:
    try:
        read = Configuration.of_file(ServeConfig(config=path))
        if os.geteuid() == 0:  # others may not read the key, which is the service's
            certificate_of(read.config)
    except ConfigError as error:
        return _first(error)
    return None


def _wrong_saved(files: StateDir, path: Path | None, *, alone: bool) -> str | None:
    try:
        if alone:
            read_saved(files.saved)
        else:
            began = ServeConfig(config=path, state=files.path)
            Configuration.read(began, {"config": path, "state": files.path})
    except ConfigError as error:
        return _first(error)
    return None


def _first(error: ConfigError) -> str:
    return str(error).splitlines()[0]
