"""Probes that come back, stations that move to and fro, and for how long a port is blocked."""

import random

from vswitch.features.loops import PROBE_DESTINATION, Moves, Penalties, Probes, token_untrusted
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.switch.forwarding import refuse_head

SWITCH, TOKEN = bytes(range(16)), bytes(range(16, 32))


def test_a_probe_comes_back_as_it_was_sent():
    probes = Probes(SWITCH)
    frame = probes.make(3, TOKEN, 1.0)
    assert len(frame) == 60
    assert frame[:6] == PROBE_DESTINATION
    assert refuse_head(frame[:16]) is None  # other switches pass it on
    for record in (frame_record(frame), encode_record(SUPERFRAME, bytes(10) + frame)):
        assert token_untrusted(record, SWITCH) == TOKEN
        assert token_untrusted(record, bytes(16)) is None
    assert probes.sender(TOKEN, 2.0) == 3
    assert probes.sender(TOKEN, 12.0) is None
    assert probes.sender(bytes(16), 2.0) is None
    probes.forget(3)
    assert probes.sender(TOKEN, 2.0) is None


def test_any_bytes_are_no_probe():
    rng, frame = random.Random(3), Probes(SWITCH).make(1, TOKEN, 0.0)
    for _ in range(5000):
        data = bytearray(frame[: rng.randrange(61)])
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        found = token_untrusted(frame_record(bytes(data)), SWITCH)
        assert found is None or len(found) <= 16
        token_untrusted(frame_record(bytes(data))[: rng.randrange(2, 20)], SWITCH)


def test_tokens_are_bounded():
    probes = Probes(SWITCH)
    for number in range(10_000):
        probes.make(1, number.to_bytes(16, "big"), number / 10_000)
    assert probes.sender((0).to_bytes(16, "big"), 1.0) is None
    assert probes.sender((9_999).to_bytes(16, "big"), 1.0) == 1
    assert len(probes._sent) <= 4096


def test_many_stations_that_move_to_and_fro_are_a_loop():
    moves = Moves()
    for station in range(4):
        for _ in range(2):
            moves.note(bytes([station] * 6), 2, 3)
            moves.note(bytes([station] * 6), 3, 2)
        assert moves.looped() == ([(2, 3)] if station == 3 else [])
    assert moves.ports() == {2, 3}
    moves.tick(5.0)
    assert moves.looped() == []


def test_one_station_that_moves_is_no_loop():
    moves = Moves()
    moves.note(b"roamer", 1, 2)
    assert moves.ports() == set()
    for _ in range(1000):
        moves.note(b"victim", 1, 2)
        moves.note(b"victim", 2, 1)
    assert moves.looped() == []
    assert moves.ports() == {1, 2}
    moves.forget(2)
    assert moves.ports() == set()


def test_moves_are_bounded():
    moves, rng = Moves(), random.Random(4)
    for _ in range(50_000):
        moves.note(rng.randbytes(6), rng.randrange(100), 100 + rng.randrange(100))
    assert len(moves._pairs) <= 256
    assert all(len(stations) <= 64 for stations in moves._pairs.values())


def test_penalties_grow_and_are_forgiven():
    penalties, now, lengths = Penalties(), 0.0, []
    for _ in range(9):
        lengths.append(penalties.block("pc1", now))
        assert penalties.left("pc1", now + 1) == lengths[-1] - 1
        now += lengths[-1] + 1
        assert penalties.left("pc1", now) == 0
    assert lengths == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert penalties.block("pc2", now) == 10
    assert penalties.block("pc1", now + 600) == 10
