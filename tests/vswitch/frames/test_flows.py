"""The flow of a frame: the same for all its packets, another one for others'."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.frames.flows import FLOWS, bucket_of, flow_of
from vswitch.frames.records import frame_record
from vswitch.frames.virtio import FRAME_AT, TCP, UDP
from vswitch.testing.superframes import Flow, superframe

MACS = bytes.fromhex("02005e005301 02005e005302")
PINGS = {4: 1, 6: 58}  # ICMP and ICMPv6
PORTS = bytes.fromhex("9c40 1451")


def ipv4(protocol, payload, *, fragment=b"\x40\x00", ident=b"\0\1", options=b"", host=2):
    head = bytes((0x45 + len(options) // 4, 0)) + (20 + len(options) + len(payload)).to_bytes(2)
    head += ident + fragment + bytes((64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, host))
    return frame_record(MACS + b"\x08\x00" + head + options + payload)


def ipv6(protocol, payload, *, label=0, host=2):
    head = (6 << 28 | label).to_bytes(4) + len(payload).to_bytes(2) + bytes((protocol, 64))
    addresses = bytes(15) + b"\1" + bytes(15) + bytes((host,))
    return frame_record(MACS + b"\x86\xdd" + head + addresses + payload)


def tagged(record, *tags):
    frame = record[4:]
    return frame_record(frame[:12] + b"".join(tags) + frame[12:])


def of_version(version):
    return ipv4 if version == 4 else ipv6


@pytest.mark.parametrize("version", [4, 6])
@given(one=st.binary(max_size=64), two=st.binary(max_size=64))
def test_all_pings_between_two_hosts_are_one_flow(version, one, two):
    """Type, code, checksum, number and data change from one to the next."""
    packet, protocol = of_version(version), PINGS[version]
    assert flow_of(packet(protocol, one)) == flow_of(packet(protocol, two))
    assert flow_of(packet(protocol, one)) != flow_of(packet(protocol, one, host=3))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP, 33, 50, 132, 136])
@given(one=st.binary(max_size=64), two=st.binary(max_size=64))
def test_ports_tell_flows_apart(version, protocol, one, two):
    packet = of_version(version)
    first = flow_of(packet(protocol, PORTS + one))
    assert first == flow_of(packet(protocol, PORTS + two))
    assert first != flow_of(packet(protocol, PORTS[::-1] + one))


@given(first=st.binary(min_size=8), later=st.binary(min_size=8), offset=st.integers(1, 0x1FFF))
def test_fragments_of_two_hosts_are_one_flow(first, later, offset):
    """Of IPv4, and of IPv6 behind its fragment header: a later one has no ports."""
    begin = ipv4(UDP, PORTS + first, fragment=b"\x20\x00")
    for more in (0, 0x20):
        fragment = (more << 8 | offset).to_bytes(2)
        assert flow_of(ipv4(UDP, later, fragment=fragment)) == flow_of(begin)
    assert flow_of(ipv6(44, first)) == flow_of(ipv6(44, later))


@given(one=st.binary(min_size=4, max_size=4), two=st.binary(min_size=4, max_size=4))
def test_options_are_no_ports(one, two):
    """A time stamp changes on the way."""
    assert flow_of(ipv4(TCP, PORTS, options=one)) == flow_of(ipv4(TCP, PORTS, options=two))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("tags", [(), (7,), (7, 9)])
def test_a_superframe_has_the_flow_of_its_frames(version, protocol, tags):
    flow = Flow(version=version, protocol=protocol, tags=tags)
    whole = superframe(flow, bytes(3000), 1000)
    assert flow_of(whole) == flow_of(frame_record(whole[FRAME_AT:]))
    assert flow_of(whole) == flow_of(superframe(flow, bytes(5000), 1400))
    other = superframe(attrs.evolve(flow, ports=(7, 5201)), bytes(3000), 1000)
    assert flow_of(whole) != flow_of(other)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [[b"\x81\0\0\7"], [b"\x88\xa8\0\7", b"\x81\0\0\x09"]])
def test_tags_are_looked_through(version, tags):
    packet = of_version(version)
    one, two = packet(TCP, PORTS + bytes(20)), packet(TCP, PORTS[::-1] + bytes(20))
    assert flow_of(tagged(one, *tags)) == flow_of(one) != flow_of(tagged(two, *tags))


def test_without_ip_the_ethernet_header_is_the_flow():
    frames = [frame_record(MACS + b"\x88\xb5" + bytes((n,))) for n in (1, 2)]
    assert flow_of(frames[0]) == flow_of(frames[1]) == MACS + b"\x88\xb5"


@given(st.binary(min_size=14), st.sampled_from(["0800", "080045", "86dd60", "81000007"]))
def test_any_frame_has_a_flow(data, kind):
    record = frame_record(data[:12] + bytes.fromhex(kind) + data[12:])
    assert len(flow_of(record)) <= 36
    assert 0 <= bucket_of(record) < FLOWS


def test_a_frame_of_nothing_but_tags_has_a_flow():
    record = frame_record(MACS + b"\x81\0\0\7" * 16_000)
    assert len(flow_of(record)) <= 14
