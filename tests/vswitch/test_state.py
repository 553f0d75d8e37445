"""Files of the state directory are replaced whole, and for their owner only."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from tests.vswitch.control import verbs_api
from vswitch.api.socket import serve_control
from vswitch.errors import ConfigError, NotFound, PrivilegeError, VswitchError
from vswitch.registry.registry import Registry
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


def give_away(path, monkeypatch):
    """Have it belong to who is neither this user nor root."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 12345)


@pytest.mark.parametrize("which", ["path", "members"])
def test_a_directory_of_somebody_else_is_refused(tmp_path, monkeypatch, which):
    files = StateDir(tmp_path / "s")
    files.ensure()
    give_away(getattr(files, which), monkeypatch)
    with pytest.raises(ConfigError, match="belongs to another user"):
        files.ensure()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_can_change_is_refused(tmp_path, mode):
    files = StateDir(tmp_path / "s")
    files.ensure()
    files.path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        files.ensure()
    with pytest.raises(ConfigError, match="chmod go-w"):
        trio.run(serve_control, files.control_socket, verbs_api({}))


def test_a_registry_of_somebody_else_is_not_served_from(tmp_path, monkeypatch):
    """Root may look into that of the service's user, whose directory it is, too."""
    files = StateDir(tmp_path / "s")
    files.ensure()
    with Registry.open(files.registry):
        pass
    give_away(files.registry, monkeypatch)
    with pytest.raises(ConfigError, match="belongs to another user"):
        Registry.open(files.registry)
    if os.geteuid() == 0:
        with pytest.raises(ConfigError, match="belongs to another user"):
            Registry.open(files.registry, create=False)
        give_away(files.path, monkeypatch)
        with Registry.open(files.registry, create=False) as registry:
            assert registry.members() == []
