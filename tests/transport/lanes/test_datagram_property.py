"""The datagram lane under any events: what comes was sent, comes once, and is whole."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.session.test_session_property import Trouble
from transport.lanes.datagram import LossMeter
from transport.testing.cores import client_and_server
from vswitch.errors import BadRecord
from vswitch.frames.records import (
    CONTROL,
    FRAME,
    SUPERFRAME,
    encode_record,
    pack_whole,
    split_whole_untrusted,
)
from vswitch.members.lane_choice import LaneRule

bodies = st.binary(min_size=24, max_size=80)  # a header of Ethernet, and one of virtio-net
records = st.lists(
    st.builds(encode_record, st.sampled_from([FRAME, SUPERFRAME]), bodies), max_size=12
)
shares = st.sampled_from([0.0, 0.05, 0.3])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("client sends"),
            st.lists(st.sampled_from([0, 1, 1384, 1385, 5000, 30_000]), min_size=1, max_size=5),
        ),
        st.tuples(
            st.just("server sends"),
            st.lists(st.sampled_from([0, 1, 1384, 1385, 5000]), min_size=1, max_size=5),
        ),
        st.tuples(st.just("kcp"), st.sampled_from([10, 5000])),
        st.tuples(st.just("time passes"), st.sampled_from([0.001, 0.05, 0.5, 3.0])),
        st.tuples(st.just("trouble"), st.tuples(shares, shares, shares, shares)),
        st.tuples(st.just("rebind"), st.integers(1, 60_000)),
        st.tuples(st.just("rekey"), st.none()),
    ),
    max_size=25,
)


@given(records, st.integers(1, 300))
def test_what_is_packed_is_split_again_and_no_record_is_cut(batch, size):
    messages = pack_whole(batch, size)
    assert split_whole_untrusted(messages) == batch
    assert [each for message in messages for each in split_whole_untrusted([message])] == batch
    for message in messages:
        assert len(message) <= size or len(split_whole_untrusted([message])) == 1


@given(st.one_of(st.binary(max_size=200), records.map(b"".join)), st.integers(0, 200))
def test_any_message_is_whole_records_or_refused(data, cut):
    data = data[:cut]
    try:
        found = split_whole_untrusted([data])
    except BadRecord:
        return
    assert b"".join(found) == data
    assert all(int.from_bytes(each[2:4], "big") == len(each) - 4 for each in found)


@given(records)
def test_control_messages_have_no_place_there(batch):
    with pytest.raises(BadRecord):
        split_whole_untrusted([b"".join(batch) + encode_record(CONTROL, b"{}")])


@given(steps, st.integers(0, 1000))
@settings(max_examples=50)
def test_nothing_comes_twice_or_changed(events, seed):
    wire, client, server = client_and_server(seed=seed, delay=0.01)
    for host in (client, server):
        host.session.open_datagrams(wire.now)
    wire.filter = trouble = Trouble(wire, seed)
    sent, got = {client: Counter(), server: Counter()}, {client: Counter(), server: Counter()}
    reliable = []
    for what, value in events:
        match what:
            case "client sends" | "server sends":
                host = client if what == "client sends" else server
                messages = [trouble.rng.randbytes(size) for size in value]
                host.session.datagrams.send(messages, wire.now)
                host.demux.touch(host.session)
                sent[host].update(messages)
            case "kcp":
                reliable.append(trouble.rng.randbytes(value))
                client.send(reliable[-1])
            case "time passes":
                wire.advance(value)
            case "trouble":
                trouble.loss, trouble.copies, trouble.late, trouble.damage = value
            case "rebind":
                wire.rebind(client, (client.address[0], value))
            case "rekey":
                client.session.keys.rekey_at = wire.now
                client.demux.touch(client.session)
        for host in (client, server):
            got[host].update(host.session.datagrams.take_messages())
    wire.heal()
    wire.advance(45.0)
    for host in (client, server):
        got[host].update(host.session.datagrams.take_messages())
        assert host.session.ended is None
    assert got[server] <= sent[client]
    assert got[client] <= sent[server]
    assert server.read() == reliable
    for host in (client, server):
        host.session.datagrams.send([b"at the end"], wire.now)
        host.demux.touch(host.session)
    wire.advance(1.0)
    assert client.session.datagrams.take_messages() == server.session.datagrams.take_messages()
    if not any(what == "trouble" for what, _ in events):
        assert got[server] == sent[client]


numbers = st.one_of(st.integers(0, 50), st.integers(0, 2**64 - 1))


@given(st.lists(st.tuples(numbers, numbers, numbers, st.integers(0, 50)), max_size=30))
def test_no_report_breaks_the_meter(reports):
    meter, now = LossMeter(0.0), 0.0
    for received, expected, sealed, unanswered in reports:
        now += 0.25
        before = meter.lost
        meter.reported_untrusted(
            received, expected, sealed=sealed, unanswered=unanswered, sent=1000, now=now
        )
        assert meter.lost >= before
        assert meter.lost <= 2**64
        assert meter.lost_at <= now


@given(
    st.lists(
        st.tuples(st.floats(0.1, 100), st.booleans(), st.integers(0, 100)),
        min_size=1,
        max_size=100,
    )
)
def test_auto_is_on_datagrams_only_after_half_a_minute_without_a_loss(looks):
    rule, now, lost_at = LaneRule(0.0), 0.0, float("-inf")
    changed = 0.0
    for passed, lost, under_way in looks:
        now += passed
        lost_at = now if lost else lost_at
        before = rule.datagram
        after = rule.choose(now, lost_at, under_way)
        if lost:
            assert not after
        if after and not before:
            assert now - max(lost_at, changed) >= 30
        if after != before:
            changed = now


def test_a_seeded_transfer_over_a_bad_path_loses_what_the_path_loses_and_no_more():
    wire, client, server = client_and_server(seed=3, delay=0.01)
    for host in (client, server):
        host.session.open_datagrams(wire.now)
    rng = random.Random(3)
    gone = []

    def lossy(datagram):
        if datagram.data[0] == 7 and rng.random() < 0.1:
            gone.append(datagram)
            return []
        return [datagram]

    wire.filter = lossy
    sent = [number.to_bytes(4, "big") * 100 for number in range(2000)]
    for message in sent:
        client.session.datagrams.send([message], wire.now)
        client.demux.touch(client.session)
        wire.advance(0.005)
    wire.advance(1.0)
    got = server.session.datagrams.take_messages()
    assert len(got) == len(sent) - len(gone)
    assert [each for each in sent if each in set(got)] == got
