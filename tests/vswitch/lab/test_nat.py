"""The NAT of the lab: what it maps, forgets and leaves alone, with checksums that stay right."""

import ipaddress
import struct

import pytest

from vswitch.frames.checksum import word_sum
from vswitch.lab.nat import MAX_MAPPINGS, Nat, NatSpec

INSIDE, OUTSIDE, PUBLIC = "198.18.0.1", "198.18.0.2", "198.18.0.3"
MACS = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"


def packed(address):
    return ipaddress.IPv4Address(address).packed


def frame(source, destination, payload=b"hello", *, checksum=True, fragment=0, options=b""):
    """An Ethernet frame with UDP over IPv4, from (address, port) to (address, port)."""
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    addresses = packed(source[0]) + packed(destination[0])
    if checksum:
        whole = addresses + struct.pack("!BBH", 0, 17, len(udp)) + udp
        udp = udp[:6] + struct.pack("!H", -word_sum(whole) % 0xFFFF or 0xFFFF) + udp[8:]
    length = 20 + len(options) + len(udp)
    words = (0x40 | (length - len(udp)) // 4, 0, length, 7, fragment, 64, 17, 0)
    header = struct.pack("!BBHHHBBH", *words) + addresses + options
    header = header[:10] + struct.pack("!H", -word_sum(header) % 0xFFFF) + header[12:]
    return MACS + b"\x08\x00" + header + udp


def ends(data):
    """Source and destination, with the checksums checked."""
    header = (data[14] & 15) * 4
    ip, udp = bytes(data[14 : 14 + header]), bytes(data[14 + header :])
    assert word_sum(ip) == 0
    if udp[6:8] != b"\0\0":
        assert word_sum(ip[12:20] + struct.pack("!BBH", 0, 17, len(udp)) + udp) == 0
    ports = struct.unpack("!HH", udp[:4])
    return [(str(ipaddress.IPv4Address(ip[at : at + 4])), ports[at > 12]) for at in (12, 16)]


def seen(nat, now=0.0, port=40000):
    """The port outside of a packet from inside."""
    return ends(nat.outward(frame((INSIDE, port), (OUTSIDE, 7450)), now))[0][1]


def answered(nat, port, now=0.0):
    """Where inside a packet to that port ends up; None for nowhere."""
    through = nat.inward(frame((OUTSIDE, 7450), (INSIDE, port)), now)
    return None if through is None else ends(through)[1]


@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(range(256)) * 5, b"\xff\xff"])
@pytest.mark.parametrize("address", [None, PUBLIC])
@pytest.mark.parametrize("checksum", [True, False])
def test_there_and_back_is_the_same_source_and_every_checksum_right(payload, address, checksum):
    nat = Nat(NatSpec(address=address), seed=3)
    for port in range(40000, 40050):
        sent = frame((INSIDE, port), (OUTSIDE, 7450), payload, checksum=checksum)
        source, destination = ends(nat.outward(sent, 0.0))
        assert source[0] == (address or INSIDE)
        assert source[1] != port
        assert destination == (OUTSIDE, 7450)
        back = nat.inward(frame((OUTSIDE, 7450), source, payload, checksum=checksum), 0.0)
        assert ends(back) == [(OUTSIDE, 7450), (INSIDE, port)]
        assert bytes(back[42:]) == payload
        assert (back[40:42] == b"\0\0") is not checksum


def test_options_of_ip_are_passed_over():
    sent = frame((INSIDE, 40000), (OUTSIDE, 7450), options=b"\x01\x01\x01\x00")
    (_, port), destination = ends(Nat(NatSpec()).outward(sent, 0.0))
    assert port != 40000
    assert destination == (OUTSIDE, 7450)


def test_a_wrong_checksum_stays_wrong():
    sent = bytearray(frame((INSIDE, 40000), (OUTSIDE, 7450)))
    sent[-1] ^= 1
    with pytest.raises(AssertionError):
        ends(Nat(NatSpec()).outward(bytes(sent), 0.0))


def test_a_mapping_lasts_and_differs_between_sources():
    nat = Nat(NatSpec())
    assert seen(nat, 0.0) == seen(nat, 1e6)
    assert seen(nat) != seen(nat, port=40001)
    assert sorted(nat.ports) == sorted({seen(nat), seen(nat, port=40001)})


def test_what_comes_to_a_port_that_leads_nowhere_is_dropped_and_counted():
    nat = Nat(NatSpec())
    assert answered(nat, 40000) is None
    assert answered(nat, seen(nat)) == (INSIDE, 40000)
    assert answered(nat, 40000) is None
    assert (nat.counts.unmapped, nat.counts.inward, nat.counts.outward) == (2, 1, 1)


def test_a_rebinding_gives_a_new_port_and_closes_the_old():
    nat = Nat(NatSpec())
    old = seen(nat)
    nat.rebind(1.0)
    assert nat.ports == []
    assert answered(nat, old, 1.0) is None
    new = seen(nat, 2.0)
    assert new != old
    assert answered(nat, new, 2.0) == (INSIDE, 40000)
    assert nat.counts.rebindings == 1


def test_an_old_port_leads_inside_for_as_long_as_was_said():
    nat = Nat(NatSpec(keep_old=3.0))
    old = seen(nat)
    nat.rebind(1.0)
    new = seen(nat, 1.5)
    for port in (old, new):
        assert answered(nat, port, 3.9) == (INSIDE, 40000)
    assert answered(nat, old, 4.0) is None
    assert answered(nat, new, 4.0) == (INSIDE, 40000)


def test_it_rebinds_by_itself():
    nat = Nat(NatSpec(rebind_every=5.0))
    ports = [seen(nat, 100.0 + second) for second in range(20)]
    assert [len(set(ports[at : at + 5])) for at in (0, 5, 10, 15)] == [1, 1, 1, 1]
    assert len(set(ports)) == 4


def test_a_mapping_that_nobody_inside_uses_is_forgotten():
    nat = Nat(NatSpec(idle=30.0))
    old = seen(nat, 0.0)
    assert seen(nat, 29.0) == old
    assert answered(nat, old, 58.0) == (INSIDE, 40000)
    assert answered(nat, old, 59.0) is None  # what comes from outside does not keep it
    assert seen(nat, 60.0) != old


def test_the_table_is_bounded_and_the_oldest_goes():
    nat = Nat(NatSpec())
    first = seen(nat, port=1)
    last = [seen(nat, port=2 + number) for number in range(MAX_MAPPINGS)][-1]
    assert answered(nat, first) is None
    assert answered(nat, last) == (INSIDE, 1 + MAX_MAPPINGS)
    assert len(nat.ports) == MAX_MAPPINGS


@pytest.mark.parametrize("field", [0x2000, 0x0001, 0x1FFF])
def test_fragments_do_not_pass(field):
    nat = Nat(NatSpec())
    piece = frame((INSIDE, 40000), (OUTSIDE, 7450), fragment=field)
    assert nat.outward(piece, 0.0) is nat.inward(piece, 0.0) is None
    assert nat.counts.fragments == 2


def test_dont_fragment_is_no_fragment():
    assert Nat(NatSpec()).outward(frame((INSIDE, 1), (OUTSIDE, 2), fragment=0x4000), 0.0)


def test_what_is_not_udp_over_ipv4_passes_untouched():
    udp = frame((INSIDE, 40000), (OUTSIDE, 7450))
    tcp = udp[:23] + b"\x06" + udp[24:]
    arp = MACS + b"\x08\x06" + bytes(46)
    ipv6 = MACS + b"\x86\xdd" + bytes(9) + b"\x11" + bytes(60)
    odd = udp[:14] + b"\x43" + udp[15:]  # a header of 12 bytes
    cut = udp[:14] + b"\x4f" + udp[15:]  # one that is longer than the frame
    nat = Nat(NatSpec())
    for each in (tcp, arp, ipv6, odd, cut, udp[:41], b""):
        assert nat.outward(each, 0.0) is each
        assert nat.inward(each, 0.0) is each
    assert nat.counts.outward == nat.counts.inward == 0


def test_the_seed_decides():
    assert seen(Nat(NatSpec(), 1)) == seen(Nat(NatSpec(), 1)) != seen(Nat(NatSpec(), 2))


@pytest.mark.parametrize(
    "fields", [{"rebind_every": 0}, {"idle": -1.0}, {"keep_old": -1.0}, {"address": "::1"}]
)
def test_a_nat_that_cannot_be_is_refused(fields):
    with pytest.raises(ValueError):
        NatSpec(**fields)
