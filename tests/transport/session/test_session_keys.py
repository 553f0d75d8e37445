"""New keys in a session that goes on: when they come, and how long the old ones last."""

from transport.constants import PREVIOUS_KEY_LIFETIME, REJECT_AFTER_UNITS, REKEY_AFTER, REKEY_JITTER
from transport.session import keyring
from transport.session.events import Rekeyed
from transport.testing.cores import client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import CONTROL, DATA, INIT


def rekeys(host, wire):
    return host.session.statistics(wire.now).rekeys


def test_by_time_with_jitter():
    times = set()
    for seed in range(10):
        wire, client, _ = client_and_server(seed=seed)
        while not rekeys(client, wire):
            wire.advance(0.5)
        times.add(wire.now - 5_000.0)
    assert min(times) >= REKEY_AFTER
    assert max(times) <= REKEY_AFTER + REKEY_JITTER + 0.5
    assert len(times) > 3


def test_by_what_the_client_sealed(monkeypatch):
    monkeypatch.setattr(keyring, "REKEY_AFTER_UNITS", 50)
    wire, client, server = client_and_server(delay=0.001)
    got = []
    for number in range(500):
        client.send(number.to_bytes(2, "big"))
        wire.advance(0.01)
        got += server.read()
    assert got == [number.to_bytes(2, "big") for number in range(500)]
    assert 5 <= rekeys(client, wire) == rekeys(server, wire) <= 15


def test_by_what_the_server_sealed_which_has_to_ask(monkeypatch):
    monkeypatch.setattr(keyring, "REKEY_AFTER_UNITS", 200)
    wire, client, server = client_and_server(delay=0.001)
    server.session.keys.current.sealer.counter = 200
    server.send(b"x")
    wire.advance(2.5)
    assert rekeys(client, wire) == rekeys(server, wire) == 1


def test_asked_by_the_server_alone():
    """What the server opened and refused counts as well, and the client knows nothing of it."""
    wire, client, server = client_and_server(delay=0.001)
    wire.advance(1.0)
    server.session.keys.current.opener.failures = keyring.REKEY_AFTER_FAILURES
    server.send(b"the server looks at its keys when it has something to do")
    wire.advance(20.0)
    assert rekeys(client, wire) == rekeys(server, wire) == 1


def test_by_what_did_not_open(monkeypatch):
    monkeypatch.setattr(keyring, "REKEY_AFTER_FAILURES", 100)
    wire, client, server = client_and_server()
    index = client.session.keys.current.local_index.to_bytes(4, "little")
    for counter in range(1000, 1100):
        assert rekeys(client, wire) == 0
        forged = b"\x04\x00\x01\x00" + index + counter.to_bytes(8, "little") + bytes(40)
        client.inject(forged, server.address)
        wire.settle()
    assert client.session.drops == {"bad_seal": 100}
    assert rekeys(client, wire) == rekeys(server, wire) == 1


def test_the_previous_key_opens_for_half_a_minute():
    wire, client, server = client_and_server()
    late = [client.session.keys.current.sealer.seal(DATA, b"") for _ in range(3)]
    wire.advance(REKEY_AFTER + REKEY_JITTER)
    assert rekeys(server, wire) == 1
    while server.session.keys.expires_at - wire.now > PREVIOUS_KEY_LIFETIME:
        wire.advance(0.1)
    server.inject(late[0], client.address)
    assert server.session.drops == {}
    wire.advance(PREVIOUS_KEY_LIFETIME)
    server.inject(late[1], client.address)
    assert server.demux.drops == {"unknown_index": 1}


def test_data_under_way_during_rekeys_is_not_lost(monkeypatch):
    monkeypatch.setattr(keyring, "REKEY_AFTER_UNITS", 30)
    wire, client, server = client_and_server(delay=0.03)
    rng = wire.random
    wire.filter = lambda each: [each] if rng.random() > 0.1 else []
    up, down = [], []
    for number in range(400):
        client.send(b"u%d" % number)
        server.send(b"d%d" % number)
        wire.advance(0.02)
        up += server.read()
        down += client.read()
    wire.advance(5.0)
    up += server.read()
    down += client.read()
    assert up == [b"u%d" % number for number in range(400)]
    assert down == [b"d%d" % number for number in range(400)]
    assert rekeys(client, wire) > 5
    assert len(client.events) == len(server.events) == 1


def test_the_conversation_goes_on_under_new_keys():
    wire, client, server = client_and_server()
    first = client.session.keys.current.handshake_hash
    wire.advance(REKEY_AFTER + REKEY_JITTER + 1)
    assert client.session.keys.current.handshake_hash != first
    client.send(b"same conversation number")
    wire.settle()
    assert server.read() == [b"same conversation number"]


def test_its_owner_is_told():
    wire, client, server = client_and_server()
    wire.advance(REKEY_AFTER + REKEY_JITTER + 1)
    for host in (client, server):
        assert host.session.next_event() == Rekeyed()
        assert host.session.next_event() is None


def test_keys_that_are_used_up_end_the_session():
    wire, client, _ = client_and_server()
    wire.filter = lambda each: [] if each.data[0] == INIT else [each]
    sealer = client.session.keys.current.sealer
    sealer.counter = REJECT_AFTER_UNITS - 2
    client.send(b"last one")
    wire.collect()
    assert client.session.ended is None
    client.send(b"one more")
    wire.collect()
    client.send(b"too many")
    wire.settle()
    assert client.session.ended.code == CloseCode.TIMEOUT
    assert client.session.ended.reason == "the keys are used up"
    assert sealer.counter == REJECT_AFTER_UNITS
    assert client.demux.sessions == 0


def test_no_counter_is_used_twice_under_a_key(monkeypatch):
    monkeypatch.setattr(keyring, "REKEY_AFTER_UNITS", 40)
    wire, client, server = client_and_server(delay=0.01)
    wire.filter = lambda each: [each] if wire.random.random() > 0.1 else []
    for _ in range(200):
        client.send(bytes(2000))
        server.send(b"x")
        wire.advance(0.02)
    server.close()
    wire.advance(5.0)
    sealed = [each.data[:16] for each in wire.sent if each.data[0] in (DATA, CONTROL)]
    # Receiver index and counter; a type of its own would not make the nonce another. The slices
    # of a unit share both, and differ in their place.
    units = {header[4:] for header in sealed}
    assert len(units) == len({header for header in sealed if not header[1]}) > 500
    assert len({header[1:2] + header[4:] for header in sealed}) == len(sealed)
