"""A switch goes into one file and comes back whole; a file that is not ours changes nothing."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from transport.crypto.identity import (
    PrivateKey,
    create_key_file,
    load_key_file,
    load_or_create_key_file,
)
from vswitch.cli import main
from vswitch.errors import BadRecord, ConfigError, ExitCode, VswitchError
from vswitch.registry import archive
from vswitch.registry.archive import CONFIG, backup, finish_restore, read_untrusted, restore
from vswitch.registry.registry import Registry
from vswitch.state import StateDir, write_file

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
    with pytest.raises(ConfigError, match=r"not empty.*is lost, and its key, which is not that"):
        restore(StateDir(tmp_path / "other"), "it", data)
    with pytest.raises(ConfigError, match=r"not empty.*is lost$"):
        restore(old, "it", data)
    restore(StateDir(tmp_path / "other"), "it", data, force=True)
    assert StateDir(tmp_path / "other").server_key.read_bytes() == before


def test_what_cannot_be_removed_is_named(old, tmp_path):
    new = StateDir(tmp_path / "new")
    new.old_server_key.mkdir(parents=True)
    with pytest.raises(VswitchError, match=f"next start tries again: {new.old_server_key}"):
        restore(new, "old.tar", backup(old), force=True)
    new.old_server_key.rmdir()
    finish_restore(new)
    assert new.server_key.read_bytes() == old.server_key.read_bytes()
    assert not new.restored.exists()


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


def state(files):
    """All that a switch goes by, and nothing that a restore has left."""
    return {
        path.relative_to(files.path).as_posix(): path.read_bytes()
        for path in files.path.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def other(tmp_path):
    """Another switch, which has what the old one has not."""
    files = StateDir(tmp_path / "other")
    files.ensure()
    for path in (files.server_key, files.old_server_key, files.key("pc1")):
        load_or_create_key_file(path)
    files.ensure_network("lab")
    for name in ("default", "lab"):
        Registry.open(files.network(name).registry).close()
    for path in (files.saved, files.tokens):
        path.write_text("of the other")
    return files


def test_nothing_of_the_switch_that_was_there_is_left(old, other):
    restore(other, "it", backup(old), force=True)
    assert other.networks() == ["default", "games"]
    assert not other.saved.exists()
    assert not other.old_server_key.exists()
    assert other.tokens.read_text() == old.tokens.read_text()
    assert other.key("pc1").exists()  # a membership of this host, not of the switch


class Cut(BaseException):
    """The program is killed here."""


def cut_at(patch, step, *calls):
    """Kill it at that step of all these. What is killed does not tidy up."""
    left, remove = [step], shutil.rmtree

    def counted(call):
        def cut(*args, **more):
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            return call(*args, **more)

        return cut

    for place, name in calls:
        patch.setattr(place, name, counted(getattr(place, name)))
    patch.setattr(shutil, "rmtree", lambda *a, **b: None if left[0] < 0 else remove(*a, **b))


@pytest.mark.parametrize("force", [True, False])
def test_a_restore_that_is_cut_short_is_done_whole_or_not_at_all(
    old, other, tmp_path, monkeypatch, force
):
    data = backup(old)
    key, whole = load_key_file(old.server_key).raw(), contents(data).keys() - {"manifest.json"}
    if not force:
        other = StateDir(tmp_path / "new")
    before = state(other)
    steps = [(archive, name) for name in ("_stage", "_remove_beside", "sync_directory")]
    steps.append((os, "rmdir"))
    done = 0
    for step in range(1000):
        with monkeypatch.context() as patch:
            cut_at(patch, step, *steps)
            try:
                restore(other, "it", data, force=force)
                break
            except Cut:
                pass
        if not other.restored.is_dir():
            if (kept := state(other)) != before:  # the last step was behind it
                assert kept["server.key"] == old.server_key.read_bytes()
                break
            continue
        done += 1
        finish_restore(other)
        assert load_key_file(other.server_key).raw() == key
        assert state(other).keys() - {"members/pc1.key"} == whole
        shutil.rmtree(other.path)  # as it was, for the next step
        for name, content in before.items():
            (other.path / name).parent.mkdir(parents=True, exist_ok=True)
            (other.path / name).write_bytes(content)
            (other.path / name).chmod(0o600)
    assert done > 3


def test_a_restore_for_which_there_is_no_space_changes_nothing(old, other, tmp_path, monkeypatch):
    data, before = backup(old), state(other)

    def full(path, content):
        if path.name == "tokens.json":
            raise VswitchError(f"cannot write {path}: No space left on device")
        write_file(path, content)

    monkeypatch.setattr(archive, "write_file", full)
    for files in (other, StateDir(tmp_path / "new")):
        with pytest.raises(VswitchError, match="No space left on device; nothing was changed"):
            restore(files, "it", data, force=True)
    assert state(other) == before
    assert not (tmp_path / "new").exists()


def test_a_switch_that_runs_keeps_its_files_though_nobody_answers(old, other):
    """It may have no control socket, or not have one yet."""
    data = backup(old)
    with Registry.open(other.registry):
        before = state(other)
        with pytest.raises(ConfigError, match="in use: stop the switch"):
            restore(other, "it", data, force=True)
        assert state(other) == before
    restore(other, "it", data, force=True)


def test_of_two_restores_at_once_one_is_refused(old, tmp_path):
    new, said = StateDir(tmp_path / "new"), []
    data = backup(old)

    def run():
        try:
            said.append(len(restore(new, "it", data)))
        except ConfigError as error:
            said.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(map(type, said), key=str) == [int, str]
    assert state(new).keys() == contents(data).keys() - {"manifest.json"}


def test_a_backup_is_of_one_moment_though_a_new_key_comes_meanwhile(old, monkeypatch):
    first = old.server_key.read_bytes()
    read = Path.read_bytes

    def rekeyed(path):
        data = read(path)
        if path == old.server_key and data == first:  # it was read, and now there is another
            path.rename(old.old_server_key)
            create_key_file(path)
        return data

    monkeypatch.setattr(Path, "read_bytes", rekeyed)
    kept = contents(backup(old))
    assert kept["server.key"] == old.server_key.read_bytes() != first
    assert kept["server.key.old"] == first


def test_a_registry_that_nobody_can_write_is_kept_all_the_same(old):
    """As on a full or read-only disk, where SQLite cannot make its files beside it."""
    (beside := old.registry.with_name("registry.sqlite-shm")).symlink_to("nowhere/at/all")
    kept = contents(backup(old))["registry.sqlite"]
    old.registry.write_bytes(kept)
    beside.unlink()
    with Registry.open(old.registry) as registry:
        assert [each.name for each in registry.members()] == ["default-pc"]


def test_a_damaged_registry_takes_no_place_of_a_sound_one(old, tmp_path, capsys):
    file = tmp_path / "switch.tar"
    main(["backup", str(file), "--state", str(old.path)])
    sound = file.read_bytes()
    damaged = bytearray(old.registry.read_bytes())
    damaged[4096 : 4096 + 100] = bytes(range(100))
    old.registry.write_bytes(damaged)
    assert main(["backup", str(file), "--state", str(old.path)]) == ExitCode.FAILED
    assert "keep the backup from before" in capsys.readouterr().err
    assert file.read_bytes() == sound
    changed = packed(contents(sound) | {"registry.sqlite": bytes(damaged)})
    with pytest.raises(ConfigError, match=r"registry.sqlite.*nothing was changed"):
        restore(StateDir(tmp_path / "new"), "it", changed)


def test_a_configuration_that_was_restored_is_not_that_of_the_next_backup(old, tmp_path):
    new, config = StateDir(tmp_path / "new"), tmp_path / "vswitch.toml"
    config.write_text("[serve]\n")
    restore(new, "it", backup(old, config))
    assert (new.path / CONFIG).exists()
    assert CONFIG not in contents(backup(new))


def test_a_restore_that_is_not_in_its_place_is_not_backed_up(old, tmp_path):
    old.restored.mkdir()
    with pytest.raises(ConfigError, match="was cut short there"):
        backup(old)


def test_headers_in_headers_are_refused():
    """Of GNU tar and of pax, which a reader may follow until its stack is full."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        nested = packed({"x": b"20 path=abcdefghij\n\0"}, kind)[:1024]
        with pytest.raises(BadRecord, match="no plain file"):
            read_untrusted(nested * 5000)


def test_a_file_without_an_end_is_refused(old, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 16)
    words = ["restore", "/dev/zero", "--state", str(tmp_path / "new")]
    assert main(words) == ExitCode.USAGE
    assert "more in it than a switch has" in capsys.readouterr().err


def test_a_place_that_cannot_be_is_said(old, tmp_path, capsys):
    long = str(tmp_path / ("x" * 300))
    assert main(["backup", str(tmp_path / "it"), "--state", long]) == ExitCode.FAILED
    assert "File name too long" in capsys.readouterr().err
    (file := tmp_path / "switch.tar").write_bytes(backup(old))
    assert main(["restore", str(file), "--state", str(file)]) == ExitCode.FAILED
    assert f"state directory {file}: Not a directory" in capsys.readouterr().err


def test_a_backup_leaves_links_and_devices_what_they_are(old, tmp_path, capsys):
    link, file, pipe = (tmp_path / name for name in ("link", "file", "pipe"))
    link.symlink_to(file)
    assert main(["backup", str(link), "--state", str(old.path)]) == ExitCode.OK
    assert link.is_symlink()
    assert contents(file.read_bytes()).keys() == contents(backup(old)).keys()
    os.mkfifo(pipe)
    assert main(["backup", str(pipe), "--state", str(old.path)]) == ExitCode.USAGE
    assert pipe.is_fifo()
    assert "is no plain file" in capsys.readouterr().err


def test_a_backup_to_standard_output(old, tmp_path):
    """Which may be a file that others can read, or be full."""
    words = [sys.executable, "-m", "vswitch", "backup", "-", "--state", str(old.path)]
    for target, code, said in (
        (tmp_path / "file", ExitCode.OK, "warning: others can read this file"),
        (Path("/dev/full"), ExitCode.FAILED, "error: cannot write the backup: No space left"),
    ):
        with target.open("wb") as out:
            done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, said in done.stderr) == (code, True)
        assert "Traceback" not in done.stderr
    assert "server.key" in contents((tmp_path / "file").read_bytes())


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
