"""Whatever clients say, in whatever order: an address has one holder, and members keep theirs."""

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st

from vswitch.frames.bootp import DhcpMessage, Kind, Option, build_dhcp, read_dhcp_untrusted
from vswitch.services.dhcp import Answer, Asker, Dhcp, Free, Keep
from vswitch.services.leases import Client
from vswitch.services.terms import DhcpSettings

SUBNET = IPv4Network("10.77.0.0/28")
HELD = {IPv4Address("10.77.0.9"): "pc1", IPv4Address("10.77.0.2"): "pc2"}
SETTINGS = DhcpSettings(
    range="10.77.0.8-10.77.0.13",
    reservations={"52:54:00:00:00:01": "10.77.0.10", "p2": "10.77.0.3"},
    lease_time=120.0,
    port_limit=4,
)
LIMIT, GRANTED = 4, (Kind.OFFER, Kind.ACK)

addresses = st.integers(0, 15).map(lambda n: SUBNET.network_address + n)
maybe = st.one_of(st.none(), addresses)
sent = st.tuples(
    st.sampled_from((Kind.DISCOVER, Kind.REQUEST, Kind.REQUEST, Kind.RELEASE, Kind.DECLINE)),
    st.integers(0, 7),  # which MAC
    st.integers(1, 3),  # behind which port
    maybe,  # the option
    st.one_of(st.just(IPv4Address(0)), addresses),  # ciaddr
    st.sampled_from((None, IPv4Address("10.77.0.1"), IPv4Address("10.77.0.9"))),
)
events = st.lists(
    st.one_of(
        sent,
        st.floats(0.1, 100.0),  # time passes
        st.tuples(addresses, st.integers(0, 7)),  # ARP
        st.sampled_from((1, 2, 3)),  # a port goes
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(events, st.booleans())
def test_an_address_has_one_holder(script, disk):
    core = Dhcp(SETTINGS.pool(SUBNET), SETTINGS.terms(SUBNET, 1500), b"\x02\0\0\0\0\x99")
    core.pool.held = HELD
    leases: dict[IPv4Address, bytes] = {}  # as whoever writes them down has it
    now = 0.0
    for event in script:
        if isinstance(event, float):
            now += event
            steps = core.tick(now)
        elif isinstance(event, int):
            steps = core.port_down(f"p{event}", free=True)
        elif len(event) == 2:
            steps = core.heard_arp(event[0], b"RT\0\0\0" + bytes((event[1],)), "p1", now)
        else:
            kind, number, port, wish, client, server = event
            options = {Option.ADDRESS: wish, Option.SERVER: server}
            message = DhcpMessage(
                kind=kind,
                transaction=1,
                mac=b"RT\0\0\0" + bytes((number,)),
                client=client,
                options={code: each.packed for code, each in options.items() if each is not None},
            )
            asker = Asker(Client(message.mac, f"p{port}"), client)
            steps = core.receive_untrusted(build_dhcp(message), asker, now)
        for step in steps:
            if isinstance(step, Free):
                assert leases.pop(IPv4Address(step.lease.address)) == step.lease.mac
            elif isinstance(step, Keep) and disk:
                lease = step.lease
                address = IPv4Address(lease.address)
                assert leases.get(address, lease.mac) == lease.mac
                leases = {key: mac for key, mac in leases.items() if mac != lease.mac}
                leases[address] = lease.mac
                check(step.answer, lease.mac)
            elif isinstance(step, Keep):
                core.lost(step.lease)
                leases = {key: mac for key, mac in leases.items() if mac != step.lease.mac}
            elif isinstance(step, Answer):
                check(step, None)
        pool = core.pool
        assert {IPv4Address(each.address): each.mac for each in pool.leases.values()} == leases
        offered = [offer.address for offer in pool.offers.values()]
        assert len(set(offered)) == len(offered)
        for mac, offer in pool.offers.items():
            assert leases.get(offer.address, mac) == mac
        assert not HELD.keys() & {*leases, *offered}
        for port in ("p1", "p2", "p3"):
            macs = {m for m, each in pool.leases.items() if each.port == port}
            macs -= {m for m, each in pool.offers.items() if each.client.port != port}
            macs |= {m for m, each in pool.offers.items() if each.client.port == port}
            assert len(macs) <= LIMIT


def check(answer, mac):
    message = read_dhcp_untrusted(answer.payload)
    assert len(answer.payload) <= 1472
    if message.kind in GRANTED:
        assert message.given not in HELD
        assert message.given in SUBNET
        reserved = {"10.77.0.10": b"RT\0\0\0\1"}
        assert reserved.get(str(message.given), message.mac) == message.mac
        assert mac in (None, message.mac)
    else:
        assert int(message.given) == 0
