"""A switch in one file: what `vswitch backup` writes and `vswitch restore` puts back.

It is a tar of the state directory: the key of the switch (and the one before while that is good,
too), the registry of each network, the settings and tokens that are kept there, the memberships of
its own host, and the configuration file under `config.toml`. A registry is copied by SQLite, so it
is consistent while the switch runs, and looked through. A manifest comes first and says which
format the archive has, and which files.

Invariants: all of a backup is of one moment, as far as the keys go. Only plain files of names that
a state directory has are taken out of an archive, links, devices, other paths are refused. A
restore is done whole or not at all, also if it is cut short: everything is written beside what is
there and checked, then given the name `restored` by which it counts, then put in place, by whoever
looks next (`finish_restore`).

Error contract: `VswitchError` and its children with the path and what to do; `read_untrusted`
raises `BadRecord` for whatever is no archive of ours. Synchronous, and uses the disk.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from transport.crypto.identity import load_key_file
from transport.errors import KeyFileError
from vswitch.errors import BadRecord, ConfigError, NotFound, VswitchError
from vswitch.registry.database import uri_as_it_is, uri_to_write
from vswitch.registry.registry import Registry
from vswitch.state import (
    StateDir,
    directory_lock,
    file_error,
    owners_beside,
    sync_directory,
    write_file,
)
from vswitch.version import SOFTWARE

CONFIG: Final = "config.toml"
FORMAT: Final = 1
MOST_BYTES: Final = 256 << 20  # of an archive: a thousand members have less than a megabyte

_MANIFEST = "manifest.json"
_KEY, _OLD_KEY, _REGISTRY = "server.key", "server.key.old", "registry.sqlite"
_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_OF_SWITCH = re.compile(
    rf"(networks/{_NAME}/)?registry\.sqlite|server\.key(\.old)?|saved\.toml|tokens\.json"
)
_FILE = re.compile(
    rf"{_OF_SWITCH.pattern}|members/{_NAME}\.(key|toml)|{_NAME}\.(key|toml|json|pem|crt)"
)
_MOST_FILES = 4096
_BLOCK = 512  # bytes: of a tar
_STAGED = ".restoring"  # the directory that becomes `StateDir.restored`


def backup(files: StateDir, config: Path | None = None) -> bytes:
    """The archive of the switch that has its state there; it may be running.

    Raises:
        NotFound: there is no switch.
        ConfigError: a restore has not come to its end there.
    """
    if os.path.lexists(files.restored):
        raise ConfigError(
            f"{files.path}: a restore was cut short there: restore again, or start the switch, "
            "which carries it out"
        )
    try:
        files.server_key.stat()
        found = _of_one_moment(files)
        if config is not None:
            found[CONFIG] = config.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if config is not None and error.filename == str(config):
            raise file_error("cannot read", config, error) from None
        raise NotFound(f"there is no switch in {files.path}: has one run with this --state?") from (
            None
        )
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
    try:
        read_untrusted(packed.getvalue())
    except BadRecord as error:
        raise VswitchError(f"{files.path} is no state that could be restored: {error}") from None
    return packed.getvalue()


def _of_one_moment(files: StateDir) -> dict[str, bytes]:
    """What there is to keep. A new key may come while it is read: then it is read again."""
    before = None
    while True:
        found: dict[str, bytes] = {}
        for path in sorted(files.path.rglob("*")):
            name = path.relative_to(files.path).as_posix()
            if not _FILE.fullmatch(name) or name == CONFIG:  # that is one which was restored
                continue
            if path.is_file() and not path.is_symlink():
                with suppress(FileNotFoundError):  # it has gone meanwhile
                    found[name] = _registry(path) if path.suffix == ".sqlite" else path.read_bytes()
        keys = found.get(_KEY), found.get(_OLD_KEY)
        if keys == before:
            return found
        before = keys


def _registry(path: Path) -> bytes:
    """The file as of the last commit, whoever is writing, and though nobody can write."""
    try:
        try:
            data = _copied(path, uri_to_write(path))
        except sqlite3.OperationalError:  # the disk is full, or read-only
            data = _copied(path, uri_as_it_is(path))
    except sqlite3.Error as error:
        raise VswitchError(
            f"registry {path} cannot be copied ({error}): keep the backup from before"
        ) from None
    return data


def _copied(path: Path, uri: str) -> bytes:
    with (
        closing(sqlite3.connect(uri, uri=True)) as source,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        source.backup(copy)
        if (said := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {said}")
        return copy.serialize()


def read_untrusted(data: bytes) -> dict[str, bytes]:
    """The files of an archive by their names, its manifest left out; `BadRecord`."""
    found: dict[str, bytes] = {}
    if len(data) > MOST_BYTES:
        raise BadRecord("there is more in it than a switch has")
    try:
        for name, body in _entries(data):
            if len(found) >= _MOST_FILES:
                raise BadRecord("there is more in it than a switch has")
            if name in found or not (name == _MANIFEST or _FILE.fullmatch(name)):
                raise BadRecord(f"{name[:80]!r} in it is no file of a switch")
            found[name] = body
    except (tarfile.TarError, ValueError) as error:
        raise BadRecord(f"no archive: {error}") from None
    try:
        manifest = json.loads(found.pop(_MANIFEST, b"{}"))
        version, listed = manifest["format"], manifest["files"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise BadRecord("it has no manifest of `vswitch backup`") from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise BadRecord(f"its format is {version!r:.20}, and this program knows {FORMAT}")
    if listed != sorted(found) or not {_KEY, _REGISTRY} <= found.keys():
        raise BadRecord("it has not the files that it says, or no key and registry among them")
    return found


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a tar, one after the other; of what a tar can have, `backup` writes no more than
    that. What else there is nests, and has lengths of its own.
    """
    at = 0
    while any(header := data[at : at + _BLOCK]):
        entry = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.size < 0:
            raise BadRecord(f"{entry.name[:80]!r} in it is no plain file")
        at += _BLOCK
        body = data[at : at + entry.size]
        if len(body) != entry.size:
            raise BadRecord("its end is missing")
        yield entry.name, body
        at += -(-entry.size // _BLOCK) * _BLOCK


def restore(files: StateDir, source: Path | str, data: bytes, *, force: bool = False) -> list[str]:
    """Make this the state of the switch that the archive is of; what was written, sorted. With
    `force` the switch that was there is lost; memberships of this host and certificates stay.

    Raises:
        ConfigError: it is no whole archive, or there is a switch already and not `force`, or
            one that runs.
        VswitchError: it cannot be written. Nothing was changed in any of these cases.
    """
    try:
        found = read_untrusted(data)
    except BadRecord as error:
        raise ConfigError(f"backup {source}: {error}; nothing was changed") from None
    there = files.path.exists()
    if not force:
        _refuse_others(files, found)
    files.ensure()
    with directory_lock(files.path):
        if _in_use(files.registry):
            raise ConfigError(f"{files.registry} is in use: stop the switch that runs there first")
        _put_in_place(files)
        if not force:  # another restore may have been first
            _refuse_others(files, found)
        staged = files.path / _STAGED
        try:
            shutil.rmtree(staged, ignore_errors=True)
            _stage(staged, source, found)
            os.rename(staged, files.restored)
            sync_directory(files.path)
        except BaseException as error:
            shutil.rmtree(staged, ignore_errors=True)
            if not there:
                with suppress(OSError):
                    files.members.rmdir()
                    files.path.rmdir()
            if isinstance(error, OSError):
                raise _unchanged(file_error("cannot write", staged, error)) from None
            raise
        _put_in_place(files)
    return sorted(found)


def _refuse_others(files: StateDir, found: Mapping[str, bytes]) -> None:
    """`ConfigError` where there is more than an empty directory or one attempt of ours."""
    try:
        there = {each.name for each in files.path.iterdir()} if files.path.exists() else set()
        if files.members.name in there and not any(files.members.iterdir()):
            there.remove(files.members.name)
        other = _KEY in there and files.server_key.read_bytes() != found[_KEY]
    except OSError as error:
        raise file_error("state directory", files.path, error) from None
    if there - {_STAGED, files.restored.name}:
        key = ", and its key, which is not that of the backup: who knows it alone, is cut off"
        raise ConfigError(
            f"{files.path} is not empty: choose another --state, or give --force, and the switch "
            f"that is there is lost{key * other}"
        )


def _in_use(registry: Path) -> bool:
    """Whether a program has it open, be it reached by a control socket or not. One that is to have
    it alone cannot read it then.
    """
    if not os.path.lexists(registry):
        return False
    try:
        with closing(sqlite3.connect(uri_to_write(registry), uri=True, timeout=0)) as alone:
            alone.execute("PRAGMA locking_mode=EXCLUSIVE")
            alone.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:  # any other is a reason to restore
        return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
    return False


def _stage(staged: Path, source: Path | str, found: dict[str, bytes]) -> None:
    """Write it all there, and see that this program can use the key and the registries."""
    listed = {_MANIFEST: json.dumps(sorted(found)).encode()}
    try:
        staged.mkdir(mode=0o700)
        for name, content in {**listed, **found}.items():
            path = staged / name
            for each in (path.parent.parent, path.parent):
                if each.is_relative_to(staged):
                    each.mkdir(mode=0o700, exist_ok=True)
            write_file(path, content)
    except VswitchError as error:
        raise _unchanged(error) from None
    try:
        for name in found:
            if name in (_KEY, _OLD_KEY):
                load_key_file(staged / name, owners_beside(staged))
            elif name.endswith(".sqlite"):
                with Registry.open(staged / name, create=False) as registry:
                    registry.members()
                _registry(staged / name)
    except (VswitchError, KeyFileError) as error:
        said = str(error).replace(f"{staged}/", "")
        raise ConfigError(f"backup {source}: {said}; nothing was changed") from None


def _unchanged(error: VswitchError) -> VswitchError:
    return type(error)(f"{error}; nothing was changed")


def finish_restore(files: StateDir) -> None:
    """Carry out a restore that was cut short after it had written all, before anybody uses what is
    there.
    """
    if os.path.isdir(files.restored):
        with directory_lock(files.path):
            _put_in_place(files)


def _put_in_place(files: StateDir) -> None:
    """Each step may have been done before. The lock is held."""
    place = files.restored
    try:
        if not os.path.isdir(place):
            return
        if (place / _MANIFEST).exists():  # else it has all been done, and goes
            _replace_with(files, place, json.loads((place / _MANIFEST).read_bytes()))
            (place / _MANIFEST).unlink()
            sync_directory(place)
        shutil.rmtree(place)
        sync_directory(files.path)
    except OSError as error:
        path = Path(error.filename or place)
        raise file_error(
            "what was restored is not in its place yet; the next start tries again:", path, error
        ) from None


def _replace_with(files: StateDir, place: Path, names: list[str]) -> None:
    for path in list(files.path.rglob("*")):  # with a key or a token of the other, others come in
        name = path.relative_to(files.path).as_posix()
        if _OF_SWITCH.fullmatch(name) and name not in names:
            _remove_beside(path)
            path.unlink()
    for name in filter(_FILE.fullmatch, names):
        path = files.path / name
        if not (place / name).exists():
            continue
        if name.startswith("networks/"):
            files.ensure_network(path.parent.name)
        _remove_beside(path)
        os.rename(place / name, path)
        sync_directory(path.parent)


def _remove_beside(path: Path) -> None:
    """What a registry holds beside it, which would be taken for that of the next one."""
    if path.suffix == ".sqlite":
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        sync_directory(path.parent)
