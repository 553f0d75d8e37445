"""Which keys seal and open, and until when."""

import pytest

from transport.constants import (
    PREVIOUS_KEY_LIFETIME,
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_FAILURES,
    REKEY_AFTER_UNITS,
    REKEY_JITTER,
)
from transport.crypto.cipher import Opener, Sealer
from transport.errors import BadPacket
from transport.session.keyring import ASK_INTERVAL, KeyPair, Keyring
from transport.wire.datagrams import Suite


def pair(index, born=0.0):
    suite, key = Suite.CHACHAPOLY, bytes([index]) * 32
    return KeyPair(suite, index, Sealer(suite, key, 9), Opener(suite, key), born, bytes(32))


def keyring(jitter=0.0):
    return Keyring(pair(1), 0.0, lambda: jitter)


def datagram(index):
    return bytes(4) + index.to_bytes(4, "little") + bytes(24)


def reason(keys, index, now):
    with pytest.raises(BadPacket) as caught:
        keys.find_untrusted(datagram(index), now)
    return caught.value.reason


def test_find():
    keys = keyring()
    assert keys.find_untrusted(datagram(1), 0.0) is keys.current
    assert reason(keys, 2, 0.0) == "unknown_index"


def test_a_key_that_is_too_old_opens_nothing():
    keys = keyring()
    assert keys.find_untrusted(datagram(1), REJECT_AFTER - 0.001)
    assert reason(keys, 1, REJECT_AFTER) == "expired_key"


def test_the_previous_key_opens_for_a_while():
    keys = keyring()
    first = keys.current
    second = pair(2, 100.0)
    keys.adopt(second, 100.0)
    assert keys.current is second
    assert keys.expires_at == 100.0 + PREVIOUS_KEY_LIFETIME
    assert keys.expire(100.0 + PREVIOUS_KEY_LIFETIME - 0.001)
    assert keys.find_untrusted(datagram(1), 129.0) is first
    assert keys.retired == []
    assert keys.expire(100.0 + PREVIOUS_KEY_LIFETIME)
    assert reason(keys, 1, 130.0) == "unknown_index"
    assert keys.find_untrusted(datagram(2), 130.0) is second
    assert keys.retired == [1]
    assert keys.expires_at == 100.0 + REJECT_AFTER


def test_only_one_previous_key():
    keys = keyring()
    keys.adopt(pair(2, 1.0), 1.0)
    keys.adopt(pair(3, 2.0), 2.0)
    assert keys.retired == [1]
    assert reason(keys, 1, 2.0) == "unknown_index"
    assert keys.find_untrusted(datagram(2), 2.0)
    assert keys.find_untrusted(datagram(3), 2.0)


def test_the_pair_in_use_expires():
    keys = keyring()
    assert keys.expire(REJECT_AFTER - 0.001)
    assert not keys.expire(REJECT_AFTER)


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 0.5, 1.0])
def test_when_to_rekey(jitter):
    keys = keyring(jitter)
    assert keys.rekey_at == REKEY_AFTER + REKEY_JITTER * abs(jitter)
    keys.adopt(pair(2, 50.0), 50.0)
    assert keys.rekey_at == 50.0 + REKEY_AFTER + REKEY_JITTER * abs(jitter)


def test_worn_by_what_was_sealed():
    keys = keyring()
    keys.current.sealer.counter = REKEY_AFTER_UNITS - 1
    assert not keys.worn()
    keys.current.sealer.seal(4, b"")
    assert keys.worn()
    keys.adopt(pair(2), 0.0)
    assert not keys.worn()


def test_worn_by_what_was_opened():
    keys = keyring()
    keys.current.opener.newest = REKEY_AFTER_UNITS - 1
    assert not keys.worn()
    keys.current.opener.newest += 1
    assert keys.worn()


def test_worn_by_what_did_not_open():
    keys = keyring()
    keys.current.opener.failures = REKEY_AFTER_FAILURES - 1
    assert not keys.worn()
    with pytest.raises(BadPacket):
        keys.current.opener.open_untrusted(bytes([4, 0, 1, 0]) + bytes(28))
    assert keys.worn()


def test_new_keys_are_due_by_time_and_wanted_again_when_that_brings_none():
    keys = keyring()
    assert not keys.due(REKEY_AFTER - 0.001)
    assert keys.due(REKEY_AFTER)
    keys.handle_timeout(REKEY_AFTER - 0.001)
    assert not keys.wanted
    keys.handle_timeout(REKEY_AFTER)
    assert keys.wanted
    assert keys.rekey_at == REKEY_AFTER + REKEY_JITTER
    keys.adopt(pair(2, 125.0), 125.0)
    assert not keys.wanted
    assert not keys.due(125.0)
    assert keys.rekeys == 1


def test_new_keys_are_due_when_somebody_wants_them_or_these_are_worn():
    keys = keyring()
    keys.wanted = True
    assert keys.due(0.0)
    keys.adopt(pair(2), 0.0)
    assert not keys.due(0.0)
    keys.current.opener.failures = REKEY_AFTER_FAILURES
    assert keys.due(0.0)


def test_worn_keys_are_asked_to_be_replaced_once_in_a_while():
    keys = keyring()
    assert not keys.should_request(ASK_INTERVAL)
    keys.current.opener.failures = REKEY_AFTER_FAILURES
    assert not keys.should_request(ASK_INTERVAL - 0.001)
    assert keys.should_request(ASK_INTERVAL)
    assert not keys.should_request(2 * ASK_INTERVAL - 0.001)
    assert keys.should_request(2 * ASK_INTERVAL)


def test_retire_all():
    keys = keyring()
    keys.adopt(pair(2), 0.0)
    keys.retire_all()
    keys.retire_all()
    assert sorted(keys.retired) == [1, 2]
    assert reason(keys, 1, 0.0) == "unknown_index"
    assert reason(keys, 2, 0.0) == "unknown_index"
