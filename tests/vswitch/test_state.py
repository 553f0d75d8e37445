"""Files of the state directory are replaced whole, and for their owner only."""

from __future__ import annotations

import errno
import os

import pytest

from vswitch.errors import NotFound, PrivilegeError, VswitchError
from vswitch.state import StateDir, directory_lock, write_file


def test_a_file_is_replaced_whole_with_the_right_mode(tmp_path):
    path = tmp_path / "f"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_file(path, b"old")

    def full(_fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VswitchError, match=r"cannot write .*No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_directories_are_private(tmp_path):
    files = StateDir(tmp_path / "a")
    files.ensure()
    files.ensure()
    assert files.path.stat().st_mode & 0o777 == 0o700
    assert files.members.stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(VswitchError, match=r"state directory .*file"):
        StateDir(tmp_path / "file").ensure()

    def forbidden(*_args, **_more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", forbidden)
    with pytest.raises(PrivilegeError, match="--state"):
        StateDir(tmp_path / "b").ensure()


def test_a_lock_needs_its_directory(tmp_path):
    with pytest.raises(NotFound, match="is --state right"):
        with directory_lock(tmp_path / "gone"):
            pass
    with directory_lock(tmp_path):
        assert os.listdir(tmp_path) == []
