"""A switch goes into one file and comes back whole; a file that is not ours changes nothing."""

from __future__ import annotations

import io
import tarfile
import time

import pytest

from transport.crypto.identity import (
    PrivateKey,
    create_key_file,
    load_key_file,
    load_or_create_key_file,
)
from vswitch.cli import main
from vswitch.errors import BadRecord, ConfigError, ExitCode, VswitchError
from vswitch.registry.archive import CONFIG, backup, read_untrusted, restore
from vswitch.registry.registry import Registry
from vswitch.state import StateDir

KEY = PrivateKey.generate().public.raw


def contents(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}


def packed(files, kind=tarfile.REGTYPE):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def old(tmp_path):
    files = StateDir(tmp_path / "old")
    files.ensure()
    load_or_create_key_file(files.server_key)
    files.ensure_network("games")
    for name in ("default", "games"):
        with Registry.open(files.network(name).registry) as registry:
            registry.enrol_local(KEY, f"{name}-pc", time.time())
    (files.path / "tokens.json").write_text("{}")
    (files.path / "control.sock").write_text("no file of the switch")
    return files


def test_what_a_running_switch_has_comes_back(old, tmp_path):
    configuration = tmp_path / "vswitch.toml"
    configuration.write_text("[serve]\n")
    new = StateDir(tmp_path / "new")
    with Registry.open(old.registry) as registry:  # its last commit is in the log beside the file
        other = PrivateKey.generate().public.raw
        registry.enrol_local(other, "late", time.time())
        written = restore(new, "it", backup(old, configuration))
    assert written == [
        CONFIG,
        "networks/games/registry.sqlite",
        "registry.sqlite",
        "server.key",
        "tokens.json",
    ]
    assert load_key_file(new.server_key).raw() == load_key_file(old.server_key).raw()
    with Registry.open(new.registry) as registry:
        assert {each.name for each in registry.members()} == {"default-pc", "late"}
    assert new.networks() == ["default", "games"]
    for each in written:
        assert (new.path / each).stat().st_mode & 0o777 == 0o600


def test_a_directory_in_use_is_left_alone_unless_forced(old, tmp_path):
    data = backup(old)
    before = old.server_key.read_bytes()
    load_or_create_key_file(StateDir(tmp_path / "other").server_key)
    with pytest.raises(ConfigError, match="not empty"):
        restore(StateDir(tmp_path / "other"), "it", data)
    restore(StateDir(tmp_path / "other"), "it", data, force=True)
    assert StateDir(tmp_path / "other").server_key.read_bytes() == before


def test_what_cannot_be_removed_is_named(old, tmp_path):
    new = StateDir(tmp_path / "new")
    new.old_server_key.mkdir(parents=True)
    with pytest.raises(VswitchError, match=f"cannot remove {new.old_server_key}"):
        restore(new, "old.tar", backup(old), force=True)


def test_both_keys_come_back_and_no_other_stays(old, tmp_path):
    alone = backup(old)
    create_key_file(old.old_server_key)
    new = StateDir(tmp_path / "new")
    assert "server.key.old" in restore(new, "it", backup(old))
    keys = [load_key_file(files.old_server_key).raw() for files in (old, new)]
    assert keys[0] == keys[1]
    assert new.old_server_key.stat().st_mode & 0o777 == 0o600
    restore(new, "it", alone, force=True)
    assert not new.old_server_key.exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../escaped.toml", tarfile.REGTYPE),
        ("/etc/vswitch.toml", tarfile.REGTYPE),
        ("networks/../../registry.sqlite", tarfile.REGTYPE),
        ("control.sock", tarfile.REGTYPE),
        ("tokens.json", tarfile.SYMTYPE),
        ("tokens.json", tarfile.LNKTYPE),
        ("tokens.json", tarfile.FIFOTYPE),
        ("members", tarfile.DIRTYPE),
    ],
)
def test_hostile_entries_are_refused_and_nothing_is_written(old, tmp_path, name, kind):
    data = packed(contents(backup(old)))
    end = data.rstrip(b"\0")
    end += bytes(-len(end) % 512)
    hostile = end + packed({name: b""}, kind)
    new = StateDir(tmp_path / "new")
    with pytest.raises(ConfigError, match="in it is no"):
        restore(new, "it", hostile)
    assert not new.path.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manifest.json": b"{}"}, "no manifest"),
        ({"manifest.json": b'{"format": 2, "files": []}'}, "its format is 2"),
        ({"manifest.json": b'{"format": true, "files": []}'}, "its format is True"),
        ({"manifest.json": b'{"format": 1, "files": []}'}, "has not the files"),
        ({"extra.toml": b""}, "has not the files"),
        ({"server.key": b"none"}, "holds no key"),
        ({"registry.sqlite": b"none"}, "registry.sqlite"),
        ({"networks/games/registry.sqlite": b"x" * 5000}, "registry.sqlite"),
    ],
)
def test_what_cannot_be_used_is_refused_whole(old, tmp_path, change, reason):
    new = StateDir(tmp_path / "new")
    with pytest.raises(ConfigError, match=reason):
        restore(new, "it", packed(contents(backup(old)) | change))
    assert not new.path.exists()


def test_no_cut_of_an_archive_is_taken(old):
    data = backup(old)
    for end in range(0, len(data.rstrip(b"\0")), 997):
        with pytest.raises(BadRecord):
            read_untrusted(data[:end])


def test_the_commands(old, tmp_path, capsys, monkeypatch):
    file, new = tmp_path / "switch.tar", tmp_path / "new"
    assert main(["backup", str(file), "--state", str(old.path)]) == ExitCode.OK
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["restore", str(file), "--state", str(new)]) == ExitCode.OK
    assert main(["restore", str(file), "--state", str(new)]) == ExitCode.USAGE
    assert main(["backup", str(file), "--state", str(tmp_path / "no")]) != ExitCode.OK
    assert "there is no switch" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["backup", "-", "--state", str(old.path)]) == ExitCode.USAGE
