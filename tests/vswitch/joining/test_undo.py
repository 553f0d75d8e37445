"""Files that say what a killed join has changed of its host."""

import json

import pytest

from vswitch.errors import ConfigError
from vswitch.joining import undo


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pc1.routes.undo"


def test_what_is_kept_is_found_until_it_is_undone(path):
    assert undo.left_behind(path) is None
    undo.keep(path, {"way_out": True})
    assert path.stat().st_mode & 0o777 == 0o600
    assert undo.left_behind(path)["way_out"] is True
    undo.forget(path)
    undo.forget(path)
    assert undo.left_behind(path) is None


def test_a_machine_that_was_started_anew_has_nothing_left(path):
    undo.keep(path, {"way_out": True})
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    assert undo.left_behind(path) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\0"])
def test_a_file_that_is_none_of_ours_is_said(path, text):
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="not what vswitch has written"):
        undo.left_behind(path)
