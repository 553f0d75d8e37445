"""Half-open handshakes: how many, of whom, for how long."""

from attrs import evolve

from transport.crypto.cipher import Opener, Sealer
from transport.crypto.identity import PublicKey
from transport.handshake.responder import (
    HALF_OPEN_LIFETIME,
    HALF_OPEN_PER_PEER,
    HALF_OPEN_TOTAL,
    HalfOpen,
    HalfOpenTable,
)
from transport.session.keyring import KeyPair
from transport.wire.datagrams import Credential, Suite

KEY = bytes(32)
OURS = PublicKey(b"\x01" * 32)


def peer(number):
    return PublicKey(number.to_bytes(32, "big"))


def entry(index, owner, now=0.0):
    suite = Suite.CHACHAPOLY
    pair = KeyPair(suite, index, Sealer(suite, KEY, 1), Opener(suite, KEY), now, KEY)
    return HalfOpen(
        pair=pair,
        identity=OURS,
        peer=peer(owner),
        credential=Credential(),
        timestamp_ns=0,
        association=1,
        resumes=None,
        kcp_mtu=1400,
        max_slices=1,
        parity=False,
        address=("192.0.2.1", 1),
        expires=HalfOpenTable.expiry(now),
    )


def test_per_peer():
    table = HalfOpenTable()
    for index in range(HALF_OPEN_PER_PEER):
        assert not table.full_for(peer(1))
        table.add(entry(index, 1))
    assert table.full_for(peer(1))
    assert not table.full_for(peer(2))
    assert table.of(peer(1)) == len(table) == HALF_OPEN_PER_PEER


def test_in_all():
    table = HalfOpenTable()
    for index in range(HALF_OPEN_TOTAL):
        assert not table.full_for(peer(9999))
        table.add(entry(index, index))
    assert table.full_for(peer(9999))


def test_removed_ones_leave_nothing_behind():
    table = HalfOpenTable()
    entries = [entry(index, index % 3) for index in range(9)]
    for each in entries:
        table.add(each)
    for each in entries:
        table.remove(each)
    assert len(table) == 0
    assert table.deadline() is None
    assert not table._per_peer


def test_half_open_handshakes_expire_in_time():
    table = HalfOpenTable()
    assert table.deadline() is None
    early, late = entry(1, 1, 0.0), entry(2, 1, 1.0)
    table.add(early)
    table.add(late)
    assert table.deadline() == HALF_OPEN_LIFETIME
    assert table.expire(HALF_OPEN_LIFETIME - 0.001) == []
    assert table.expire(HALF_OPEN_LIFETIME) == [early]
    assert table.of(peer(1)) == 1
    assert table.expire(100.0) == [late]
    assert len(table) == 0


def test_looking_up_a_stranger_makes_no_entry():
    table = HalfOpenTable()
    for number in range(100):
        assert table.of(peer(number)) == 0
        assert not table.full_for(peer(number))
    assert not table._per_peer


def test_those_for_an_identity_that_is_no_more_are_taken_out():
    table = HalfOpenTable()
    stays, goes = entry(1, 1), evolve(entry(2, 1), identity=PublicKey(b"\x02" * 32))
    table.add(stays)
    table.add(goes)
    assert table.of_others({OURS}) == [goes]
    assert len(table) == table.of(peer(1)) == 1
