"""Key files: complete or absent, private, never overwritten, refused where others may read."""

import base64
import errno
import os
import stat
import threading

import pytest

from transport.crypto import identity
from transport.crypto.identity import (
    PrivateKey,
    create_key_file,
    load_key_file,
    load_or_create_key_file,
)
from transport.errors import KeyFileError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_created_file_is_private_and_loads(tmp_path):
    path = tmp_path / "a" / "b" / "server.key"
    key = create_key_file(path)
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert path.read_bytes() == base64.b64encode(key.raw()) + b"\n"
    assert load_key_file(path).raw() == key.raw()
    assert load_key_file(str(path)).raw() == key.raw()
    assert os.listdir(path.parent) == ["server.key"]
    assert path.stat().st_nlink == 1


def test_relative_path_without_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = create_key_file("server.key")
    assert load_key_file("server.key").raw() == key.raw()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_mode_does_not_depend_on_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        create_key_file(tmp_path / "key")
    finally:
        os.umask(before)
    assert mode(tmp_path / "key") == 0o600


def test_existing_directory_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    create_key_file(tmp_path / "key")
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_an_existing_key_file_is_never_overwritten(tmp_path, kind):
    path = tmp_path / "key"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="exists and is not overwritten"):
        create_key_file(path)
    assert os.listdir(tmp_path) == ["key"]
    if kind == "file":
        assert path.read_text() == "precious"


def test_load_or_create_keeps_the_key(tmp_path):
    path = tmp_path / "key"
    assert load_or_create_key_file(path).raw() == load_or_create_key_file(path).raw()


def test_racing_creators_agree_on_one_key(tmp_path):
    path, keys, start = tmp_path / "key", [], threading.Barrier(8)

    def race():
        start.wait()
        keys.append(load_or_create_key_file(path).raw())

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert os.listdir(tmp_path) == ["key"]


def test_lost_race_takes_the_winners_key(tmp_path, monkeypatch):
    path = tmp_path / "key"
    link = os.link
    winner = PrivateKey.generate()

    def late_link(*args, **kwargs):
        monkeypatch.setattr(os, "link", link)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, base64.b64encode(winner.raw()))
        os.close(fd)
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", late_link)
    assert load_or_create_key_file(path).raw() == winner.raw()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(KeyFileError, match=r"gone\.key does not exist"):
        load_key_file(tmp_path / "gone.key")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o610, 0o601, 0o666])
def test_open_modes_are_refused_with_the_cure(tmp_path, bits):
    path = tmp_path / "key"
    create_key_file(path)
    path.chmod(bits)
    for load in (load_key_file, load_or_create_key_file):
        with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
            load(path)
    path.chmod(0o400)
    load_key_file(path)


def test_a_strangers_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "key"
    create_key_file(path)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        stranger = os.geteuid() + 1
        monkeypatch.setattr(identity.os, "geteuid", lambda: stranger)
    with pytest.raises(KeyFileError, match=r"belongs to user \d+.*runuser"):
        load_key_file(path)


def test_link_fifo_and_directory_are_refused(tmp_path):
    create_key_file(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    with pytest.raises(KeyFileError, match="symbolic link"):
        load_key_file(tmp_path / "link")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_key_file(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_key_file(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"\xff" * 44, b"A" * 44, bytes(4096)])
def test_malformed_content_is_refused_and_not_quoted(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="holds no key") as caught:
        load_or_create_key_file(path)
    assert "hello" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("step", ["write", "short write", "fsync", "link"])
def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "short write":
        monkeypatch.setattr(os, "write", lambda _fd, data: len(data) - 1)
    else:
        monkeypatch.setattr(os, step, full)
    path = tmp_path / "key"
    for create in (create_key_file, load_or_create_key_file):
        with pytest.raises(KeyFileError, match="No space left on device"):
            create(path)
    assert os.listdir(tmp_path) == []


def test_read_error_is_named(tmp_path, monkeypatch):
    def broken(*_args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    create_key_file(tmp_path / "key")
    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(KeyFileError, match=r"key cannot be read: Input/output error"):
        load_key_file(tmp_path / "key")


def test_directory_that_is_a_file(tmp_path):
    (tmp_path / "state").write_text("")
    for create in (create_key_file, load_or_create_key_file):
        with pytest.raises(KeyFileError, match="cannot be"):
            create(tmp_path / "state" / "key")
