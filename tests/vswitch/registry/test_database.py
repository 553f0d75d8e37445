"""The file of the registry: several at once, a full disk, and files that cannot be used."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing
from ipaddress import IPv4Network

import pytest

from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, NotFound, RefusedError, VswitchError
from vswitch.members.protocol import ByeCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, Invite, LastServed

NOW = 1_000_000.0
HOUR = 3600.0
SUBNET = IPv4Network("10.77.0.0/24")
KEY1, KEY2, KEY3 = (bytes([n]) * 32 for n in (1, 2, 3))


def make_invite(name="pc1", number=1, now=NOW, life=HOUR):
    return Invite(bytes([number]) * 8, bytes([number]) * 32, name, now, now + life)


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        yield registry


def test_two_open_registries_see_each_other_at_once(tmp_path):
    with Registry.open(tmp_path / "r") as serve, Registry.open(tmp_path / "r") as command:
        command.add_invite(make_invite())
        assert serve.invite(b"\1" * 8) is not None
        serve.enrol(KEY1, "pc1", b"\1" * 8, NOW)
        command.revoke("pc1", NOW)
        assert serve.look_up(KEY1).revoked == NOW


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    with Registry.open(tmp_path / "r") as one, Registry.open(tmp_path / "r") as two:
        one.enrol_local(KEY1, "pc1", NOW)
        with two._database.transaction():
            assert one.look_up(KEY1) is not None
        with one._database.transaction():
            assert one.look_up(KEY1) is not None


def test_a_writer_that_waits_too_long_says_so(tmp_path):
    with Registry.open(tmp_path / "r") as one, Registry.open(tmp_path / "r") as two:
        two._database._writer.execute("PRAGMA busy_timeout=1")
        with one._database.transaction():
            with pytest.raises(VswitchError, match="another program kept it locked"):
                two.enrol_local(KEY1, "pc1", NOW)
        assert two.enrol_local(KEY1, "pc1", NOW).name == "pc1"


def test_many_threads_race_for_one_invite_and_one_wins(tmp_path):
    path = tmp_path / "r"
    with Registry.open(path) as registry:
        registry.add_invite(make_invite())
    results = []
    barrier = threading.Barrier(8)

    def race(number):
        # Each has its own connections, as each of several processes has.
        with Registry.open(path) as mine:
            barrier.wait()
            try:
                mine.enrol(bytes([number]) * 32, "pc1", b"\1" * 8, NOW)
                results.append("in")
            except EnrolRefused as refused:
                results.append(refused.code)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == sorted(["in"] + [ByeCode.INVITE_USED] * 7, key=str)


def test_one_object_serves_many_threads(registry):
    errors = []

    def work(number):
        try:
            registry.enrol_local(bytes([number]) * 32, f"pc{number}", NOW)
            registry.lease(bytes([number]) * 32, "auto", SUBNET)
            assert registry.look_up(bytes([number]) * 32) is not None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({member.address for member in registry.members()}) == 16


def fill(registry, database_full):
    """Enrol until the disk is full; the number of the member that did not fit any more."""
    for number in range(1024):
        registry.add_invite(
            Invite(number.to_bytes(8, "big"), bytes(32), f"x{number}", NOW, NOW + HOUR)
        )
    database_full()
    for number in range(1024):
        try:
            enrol(registry, number)
        except VswitchError as error:
            return number, str(error)
    raise AssertionError("1024 members fitted on a full disk")


def enrol(registry, number):
    return registry.enrol(number.to_bytes(32, "big"), "", number.to_bytes(8, "big"), NOW)


def assert_nothing_half_done(registry, number):
    assert registry.invite(number.to_bytes(8, "big")).used is None
    assert registry.look_up(number.to_bytes(32, "big")) is None
    assert len(registry.members()) == number


def test_a_full_database_leaves_the_invite_unused(registry):
    def database_full():
        pages = registry._database.read("PRAGMA page_count")[0][0]
        registry._database._writer.execute(f"PRAGMA max_page_count={pages}")

    number, message = fill(registry, database_full)
    assert "the disk is full or read-only; nothing was changed: free some space" in message
    assert_nothing_half_done(registry, number)
    registry._database._writer.execute("PRAGMA max_page_count=100000")
    assert enrol(registry, number).name == f"x{number}"
    assert registry.invite(number.to_bytes(8, "big")).used == NOW


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16M,mode=0700", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root and the mount command")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_leaves_the_invite_unused(small_disk):
    ballast = small_disk / "ballast"

    def disk_full():
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with Registry.open(small_disk / "r") as registry:
        number, message = fill(registry, disk_full)
        assert "the disk is full" in message
        assert_nothing_half_done(registry, number)
        ballast.unlink()
        assert enrol(registry, number).name == f"x{number}"
    with Registry.open(small_disk / "r", create=False) as registry:
        assert registry.invite(number.to_bytes(8, "big")).used == NOW


def test_the_file_is_for_its_owner_only(tmp_path):
    path = tmp_path / "r"
    with Registry.open(path) as registry:
        registry.enrol_local(KEY1, "pc1", NOW)
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600, file
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match=r"mode 0640\): chmod 600"):
        Registry.open(path)


def test_a_registry_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match="has a switch run"):
        Registry.open(tmp_path / "r", create=False)
    with pytest.raises(NotFound, match="is --state right"):
        Registry.open(tmp_path / "gone" / "r", create=False)


def test_a_file_that_is_no_registry_is_refused(tmp_path):
    path = tmp_path / "r"
    path.write_bytes(b"not a database, whatever its name" * 40)
    path.chmod(0o600)
    with pytest.raises(VswitchError, match="is damaged or no registry"):
        Registry.open(path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        Registry.open(tmp_path / "fifo")


def test_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "r").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VswitchError, match="symbolic links"):
        Registry.open(tmp_path / "r")


def test_a_registry_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "r"
    Registry.open(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version=9")
    with pytest.raises(ConfigError, match="made by a newer vswitch"):
        Registry.open(path)


def test_a_path_with_odd_characters_is_opened_and_closing_twice_does_nothing(tmp_path):
    path = tmp_path / "r?x=%23#.sqlite"
    registry = Registry.open(path)
    registry.close()
    registry.close()
    assert path.exists()


# --- a file that is garbled -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), ValueError("x"), OverflowError()]
)
def test_whatever_sqlite_raises_at_open_is_said_to_be_damage(tmp_path, monkeypatch, error):
    def connect(*_args, **_options):
        raise error

    monkeypatch.setattr("vswitch.registry.database.sqlite3.connect", connect)
    with pytest.raises(VswitchError, match="is damaged"):
        Registry.open(tmp_path / "r")


GARBLED = {
    "a name that is no text": "UPDATE member SET name = x'ff00'",
    "a name that is no UTF-8": "UPDATE member SET name = CAST(x'ff' AS TEXT)",
    "an address that is none": "UPDATE member SET address = '10.0.0'",
    "a time that is none": "UPDATE member SET created = 'soon', revoked = x'00'",
    "a time that cannot be": "UPDATE member SET revoked = 9e300",
    "an invite of nobody": "UPDATE invite SET psk = CAST(x'ff' AS TEXT), expires = 'x'",
    "a subnet that is none": "UPDATE meta SET value = 'x'",
}


@pytest.mark.parametrize("column", ["created", "last_seen", "revoked"])
@pytest.mark.parametrize("time", ["9e300", "-9e300", "9e999", "253402300800", "-62135596801"])
def test_a_time_that_cannot_be_shown_is_damage(registry, column, time):
    registry.enrol_local(bytes(32), "pc1", NOW)
    registry._database._writer.execute(f"UPDATE member SET {column} = {time}")
    with pytest.raises(VswitchError, match="is damaged"):
        registry.members()


@pytest.mark.parametrize("change", GARBLED.values(), ids=GARBLED)
def test_a_garbled_row_is_damage_or_a_refusal_in_every_call(registry, change):
    key = bytes(32)
    registry.enrol_local(key, "pc1", NOW)
    registry.add_invite(make_invite("pc2"))
    registry.record_served(LastServed((HostPort("::", 1),), (), IPv4Network("10.0.0.0/24")))
    writer = registry._database._writer
    writer.execute("PRAGMA ignore_check_constraints=ON")
    writer.execute(change)
    invite = make_invite("pc2")
    calls = [
        registry.members,
        registry.served,
        lambda: registry.look_up(key),
        lambda: registry.named("pc1"),
        lambda: registry.invite(invite.id),
        lambda: registry.lease(key, "auto", IPv4Network("10.0.0.0/24")),
        lambda: registry.lease(bytes(31) + b"1", "auto", IPv4Network("10.0.0.0/24")),
        lambda: registry.enrol(key, "", invite.id, NOW),
        lambda: registry.enrol(bytes(31) + b"1", "", invite.id, NOW),
        lambda: registry.add_invite(make_invite("pc3", 3)),
        lambda: registry.touch([key], NOW),
        lambda: registry.revoke("pc1", NOW),
    ]
    for call in calls:
        try:
            call()
        except VswitchError as error:
            assert isinstance(error, RefusedError | NotFound) or "is damaged" in str(error)  # noqa: PT017
