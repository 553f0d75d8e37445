"""What is refused before root is given up; tests/netns/test_given_up_root.py does it."""

import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from vswitch.config.options import ExecConfig, JoinConfig, ServeConfig
from vswitch.config.sources import options_of
from vswitch.errors import ConfigError, PrivilegeError, VswitchError
from vswitch.namespaces import privilege
from vswitch.namespaces.privilege import Capability, become
from vswitch.state import StateDir

pytestmark = pytest.mark.linux
OTHER = 12345


@pytest.fixture
def changed(monkeypatch):
    """Root, as far as can be told, and the other users of the host; what changes who it is."""
    called = []
    users = {"root": 0, "other": OTHER, "toor": 0}

    def entry(name):
        return pwd.struct_passwd((name, "x", users[name], 7, "", "/nowhere", "/bin/false"))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "listdir", lambda path: ["1"])  # one thread
    monkeypatch.setattr(pwd, "getpwnam", entry)
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *ids, name=name: called.append((name, *ids)))
    monkeypatch.setattr(privilege, "call", lambda name, option, *_: called.append((name, option)))
    monkeypatch.setattr(
        privilege, "keep_capabilities", lambda bits: called.append(("capset", bits))
    )
    for name in ("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "/root")
    return called


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A state directory that is the other user's, by what `lstat` says."""
    files = StateDir(tmp_path / "state")
    files.ensure()
    return files


def owned(monkeypatch, files, uid):
    fields = list(os.lstat(files.path))
    fields[4] = uid
    monkeypatch.setattr(type(files.path), "lstat", lambda self: os.stat_result(fields))


def test_it_is_done_in_the_order_that_keeps_capabilities(changed, files, monkeypatch):
    owned(monkeypatch, files, OTHER)
    become("other", [Capability.NET_ADMIN, Capability.NET_BIND_SERVICE] * 2, files)
    assert changed == [
        ("prctl", 8),
        ("setgroups", []),
        ("setresgid", 7, 7, 7),
        ("setresuid", OTHER, OTHER, OTHER),
        ("capset", 1 << 12 | 1 << 10),
        ("prctl", 38),
    ]
    assert [os.environ.get(each) for each in ("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR")] == [
        "/nowhere",
        "other",
        "other",
        None,
    ]


@pytest.mark.parametrize(
    ("user", "why"), [("nobody-here", "no user of that name"), ("toor", "that is root")]
)
def test_who_is_nobody_or_root_is_refused(changed, files, user, why, monkeypatch):
    with pytest.raises(ConfigError, match=why):
        become(user, (), files)
    assert not changed


def test_files_of_others_are_named_with_the_command(changed, files, monkeypatch):
    owned(monkeypatch, files, 0)
    with pytest.raises(ConfigError, match=rf"`chown -R other: {files.path}`"):
        become("other", (), files)
    assert not changed


def test_a_socket_of_a_join_that_is_root_is_in_nobodys_way(changed, files, monkeypatch):
    owned(monkeypatch, files, OTHER)
    lstat = type(files.path).lstat

    def one_of_root(self):
        fields = list(lstat(self))
        if self == files.join_socket("pc1"):
            fields[0], fields[4] = stat.S_IFSOCK | 0o660, 0
        return os.stat_result(fields)

    monkeypatch.setattr(type(files.path), "lstat", one_of_root)
    files.join_socket("pc1").touch()
    become("other", (), files)
    assert ("setresuid", OTHER, OTHER, OTHER) in changed


def test_a_link_to_another_file_system_is_looked_behind(changed, files, monkeypatch, tmp_path):
    """`chown -R` does not go behind it either: what is said must name what to change."""
    link = tmp_path / "link"
    link.symlink_to(files.path)
    owned(monkeypatch, files, 0)
    with pytest.raises(ConfigError, match=rf"`chown -R other: {files.path}`"):
        become("other", (), StateDir(link))
    owned(monkeypatch, files, OTHER)
    become("other", (), StateDir(link))
    assert ("setresuid", OTHER, OTHER, OTHER) in changed


def test_no_link_that_is_put_in_place_of_the_new_directory_is_given_away(
    changed, monkeypatch, tmp_path
):
    given, mkdir = [], Path.mkdir

    def replaced(self, *args, **kwargs):
        mkdir(self, *args, **kwargs)
        self.rename(tmp_path / "away")
        self.symlink_to(tmp_path)

    monkeypatch.setattr(Path, "mkdir", replaced)
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda what, *ids: given.append(what))
    with pytest.raises(VswitchError, match="state directory"):
        become("other", (), StateDir(tmp_path / "state"))
    assert not given
    assert not changed


def test_what_has_gone_meanwhile_is_nobodys(changed, files, monkeypatch):
    owned(monkeypatch, files, OTHER)
    lstat = type(files.path).lstat

    def gone(self):
        if self == files.members:
            raise FileNotFoundError(self)
        return lstat(self)

    monkeypatch.setattr(type(files.path), "lstat", gone)
    become("other", (), files)
    assert ("setresuid", OTHER, OTHER, OTHER) in changed


def test_elsewhere_there_is_no_such_option(changed, files, monkeypatch):
    monkeypatch.setattr(privilege, "LINUX", False)
    with pytest.raises(ConfigError, match="needs Linux"):
        become("other", (), files)


def test_a_user_stays_who_he_is_and_becomes_nobody_else(changed, files, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    become("other", (), files)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER + 1)
    with pytest.raises(PrivilegeError, match="takes root"):
        become("other", (), files)
    assert not changed


def test_threads_would_keep_the_rights_of_root(changed, files, monkeypatch):
    owned(monkeypatch, files, OTHER)
    monkeypatch.setattr(os, "listdir", lambda path: ["1", "2"])
    with pytest.raises(RuntimeError, match="2 threads"):
        become("other", (), files)
    assert not changed


def test_a_program_that_the_user_cannot_read_is_named(changed, files, monkeypatch):
    owned(monkeypatch, files, OTHER)
    monkeypatch.setattr(os, "access", lambda path, mode: path != sys.executable)
    with pytest.raises(PrivilegeError, match=f"{sys.executable} cannot be read by the user other"):
        become("other", (), files)


def test_programs_without_root_have_no_such_option():
    assert "user" in options_of(ServeConfig)
    assert "user" in options_of(JoinConfig)
    assert "user" not in options_of(ExecConfig)
    assert ExecConfig(name="pc1").user is None
