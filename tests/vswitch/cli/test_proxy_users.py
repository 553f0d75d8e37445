"""The file of `proxy --socks-users`."""

import pytest

from vswitch.cli.proxy import read_users
from vswitch.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users"
    path.touch(0o600)
    return path


def test_lines_of_user_and_password(file):
    file.write_bytes(b"# who may\n\nme:a:b c\nyou:\xff\n")
    assert read_users(file) == {b"me": b"a:b c", b"you": b"\xff"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no user"),
        (b"me:x\nyou\n", "line 2: write USER:PASSWORD"),
        (b":x\n", "line 1"),
        (b"me:\n", "line 1"),
        (b"me:" + b"x" * 256, "line 1"),
    ],
)
def test_what_is_no_such_file(file, content, reason):
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_users(file)


def test_file_that_others_can_read_is_refused(file):
    file.write_bytes(b"me:x\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_users(file)
