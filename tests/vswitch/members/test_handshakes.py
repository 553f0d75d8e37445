"""`--pq` on a host that has ML-KEM-768, and on one that lacks it."""

import sys

import pytest

from transport import PostQuantum, post_quantum_missing
from vswitch.errors import ConfigError
from vswitch.members.handshakes import post_quantum_of


@pytest.fixture
def without(monkeypatch):
    """An older `cryptography`."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
    post_quantum_missing.cache_clear()
    yield
    post_quantum_missing.cache_clear()


@pytest.mark.parametrize("wish", list(PostQuantum))
def test_where_it_is_the_wish_is_what_is_asked(wish, caplog):
    assert post_quantum_of(wish.value) is wish
    assert caplog.messages == []


def test_where_it_is_missing_auto_does_without_and_says_so_once(without, caplog):
    assert post_quantum_of("auto") is PostQuantum.OFF
    (message,) = caplog.messages
    assert "no-post-quantum" in message
    assert "cryptography 47 or newer" in message


def test_where_it_is_missing_off_says_nothing(without, caplog):
    assert post_quantum_of("off") is PostQuantum.OFF
    assert caplog.messages == []


def test_where_it_is_missing_require_says_what_it_takes(without, caplog):
    with pytest.raises(ConfigError, match=r"--pq require: .* cryptography 47 or newer"):
        post_quantum_of("require")
    assert caplog.messages == []
