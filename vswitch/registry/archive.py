"""A switch in one file: what `vswitch backup` writes and `vswitch restore` puts back.

It is a tar of the state directory: the key of the switch (and the one before while that is good,
too), the registry of each network, the settings and tokens that are kept there, the memberships of
its own host, and the configuration file under `config.toml`. A registry is copied by SQLite, so it
is consistent while the switch runs. A manifest comes first and says which format the archive has,
and which files.

Invariants: only plain files of names that a state directory has are taken out of an archive, and
nothing is written before all of it was read and checked; links, devices, other paths are refused.

Error contract: `VswitchError` and its children with the path and what to do; `read_untrusted`
raises `BadRecord` for whatever is no archive of ours. Synchronous, and uses the disk.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from transport.crypto.identity import load_key_file
from transport.errors import KeyFileError
from vswitch.errors import BadRecord, ConfigError, NotFound, VswitchError
from vswitch.registry.registry import Registry
from vswitch.state import StateDir, file_error, owners_beside, write_file
from vswitch.version import SOFTWARE

CONFIG: Final = "config.toml"
FORMAT: Final = 1

_MANIFEST = "manifest.json"
_KEY, _OLD_KEY = "server.key", "server.key.old"
_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_FILE = re.compile(
    rf"(networks/{_NAME}/)?registry\.sqlite|members/{_NAME}\.(key|toml)"
    r"|[a-z0-9][a-z0-9-]{0,62}\.(key|toml|json|pem|crt)|server\.key\.old"
)
_MOST_FILES = 4096
_MOST_BYTES = 256 << 20  # of all files together: a thousand members have less than a megabyte


def backup(files: StateDir, config: Path | None = None) -> bytes:
    """The archive of the switch that has its state there; it may be running.

    Raises:
        NotFound: there is no switch.
    """
    if not files.server_key.exists():
        raise NotFound(f"there is no switch in {files.path}: has one run with this --state?")
    found: dict[str, bytes] = {}
    try:
        for path in sorted(files.path.rglob("*")):
            name = path.relative_to(files.path).as_posix()
            if _FILE.fullmatch(name) and path.is_file() and not path.is_symlink():
                found[name] = _registry(path) if path.suffix == ".sqlite" else path.read_bytes()
        if config is not None:
            found[CONFIG] = config.read_bytes()
    except OSError as error:
        raise file_error("cannot read", Path(error.filename or files.path), error) from None
    made = round(time.time())
    manifest = {"format": FORMAT, "software": SOFTWARE, "made": made, "files": sorted(found)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in {_MANIFEST: json.dumps(manifest).encode(), **found}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, made
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _registry(path: Path) -> bytes:
    """The file as of the last commit, whoever is writing."""
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            source.backup(copy)
            return copy.serialize()
    except sqlite3.Error as error:
        raise VswitchError(f"registry {path} cannot be copied: {error}") from None


def read_untrusted(data: bytes) -> dict[str, bytes]:
    """The files of an archive by their names, its manifest left out; `BadRecord`."""
    found: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                total += entry.size
                if not entry.isreg() or entry.size < 0:
                    raise BadRecord(f"{entry.name[:80]!r} in it is no plain file")
                if len(found) >= _MOST_FILES or total > _MOST_BYTES:
                    raise BadRecord("there is more in it than a switch has")
                known = entry.name == _MANIFEST or _FILE.fullmatch(entry.name)
                if not known or entry.name in found:
                    raise BadRecord(f"{entry.name[:80]!r} in it is no file of a switch")
                body = archive.extractfile(entry)
                found[entry.name] = b"" if body is None else body.read()
                if len(found[entry.name]) != entry.size:
                    raise BadRecord("its end is missing")
    except BadRecord:
        raise
    except (tarfile.TarError, ValueError, OverflowError, EOFError, OSError) as error:
        raise BadRecord(f"no archive: {error}") from None
    try:
        manifest = json.loads(found.pop(_MANIFEST, b"{}"))
        version, listed = manifest["format"], manifest["files"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise BadRecord("it has no manifest of `vswitch backup`") from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise BadRecord(f"its format is {version!r:.20}, and this program knows {FORMAT}")
    if listed != sorted(found) or not {_KEY, "registry.sqlite"} <= found.keys():
        raise BadRecord("it has not the files that it says, or no key and registry among them")
    return found


def restore(files: StateDir, source: Path | str, data: bytes, *, force: bool = False) -> list[str]:
    """Make this the state of the switch that the archive is of; what was written, sorted.

    Raises:
        ConfigError: it is no whole archive, or there is a switch already and not `force`.
    """
    try:
        found = read_untrusted(data)
    except BadRecord as error:
        raise ConfigError(f"backup {source}: {error}; nothing was changed") from None
    if not force and files.path.exists() and any(files.path.iterdir()):
        raise ConfigError(
            f"{files.path} is not empty: choose another --state, or give --force, and what is "
            "there of the same names is lost"
        )
    _check(source, found)
    files.ensure()
    if _OLD_KEY not in found:  # with one that is there, another's members would come in
        _remove(files.old_server_key)
    for name, content in sorted(found.items()):
        path = files.path / name
        if name.startswith("networks/"):
            files.ensure_network(path.parent.name)
        if path.suffix == ".sqlite":  # what they hold is of the file that goes
            for beside in ("-wal", "-shm"):
                _remove(path.with_name(path.name + beside))
        write_file(path, content)
    return sorted(found)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise file_error("cannot remove", path, error) from None


def _check(source: Path | str, found: Mapping[str, bytes]) -> None:
    """That this program can use the key and the registries, tried elsewhere."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        try:
            for name, data in found.items():
                if name in (_KEY, _OLD_KEY) or name.endswith(".sqlite"):
                    target = path / name.replace("/", "_")
                    write_file(target, data)
                    if name in (_KEY, _OLD_KEY):
                        load_key_file(target, owners_beside(path))
                    else:
                        with Registry.open(target, create=False) as registry:
                            registry.members()
        except (VswitchError, KeyFileError) as error:
            said = str(error).replace(place, "")
            raise ConfigError(f"backup {source}: {said}; nothing was changed") from None
