"""The DHCP server's core: what each message of a client leads to, by RFC 2131."""

from ipaddress import IPv4Address, IPv4Network

import attrs
import pytest

from vswitch.frames.bootp import REPLY, DhcpMessage, Kind, Option, build_dhcp, read_dhcp_untrusted
from vswitch.frames.ethernet import BROADCAST
from vswitch.services import dhcp, leases, terms
from vswitch.services.dhcp import Answer, Asker, Dhcp, Free, Keep, Look, Probe
from vswitch.services.leases import Client
from vswitch.services.terms import DhcpSettings

SUBNET = IPv4Network("10.77.0.0/24")
SERVER, NOBODY = IPv4Address("10.77.0.1"), IPv4Address(0)
OWN = bytes.fromhex("020000000001")
A, B, C = (bytes.fromhex(f"5254000000{n:02x}") for n in (0xA, 0xB, 0xC))
LATER = dhcp.PROBE + 0.01


def server(**settings):
    said = DhcpSettings(**settings)
    return Dhcp(said.pool(SUBNET), said.terms(SUBNET, 1400), OWN)


class Machine:
    """A client of the core, with the steps done as the shell does them."""

    def __init__(self, core, mac=A, port="home", own=None):
        self.core, self.mac, self.port, self.own = core, mac, port, own
        self.steps = []
        self.kept = {}

    def ask(self, kind, now=0.0, *, source=NOBODY, sender=None, **fields):
        options = {Option[name]: body for name, body in fields.pop("options", {}).items()}
        message = DhcpMessage(kind=kind, transaction=9, mac=self.mac, options=options, **fields)
        client = Client(sender or self.mac, self.port, self.own)
        self.steps = self.core.receive_untrusted(build_dhcp(message), Asker(client, source), now)
        return self.answer()

    def wait(self, now):
        self.steps = self.core.tick(now)
        return self.answer()

    def answer(self):
        """The one that is sent, if all that is kept can be."""
        found = [
            each.answer if isinstance(each, Keep) else each
            for each in self.steps
            if isinstance(each, Answer | Keep)
        ]
        assert len(found) <= 1
        return Told(found[0]) if found else None

    def lease(self, now=0.0, **options):
        """Discover, offer, request, acknowledge: the address."""
        offer = self.ask(Kind.DISCOVER, now) or self.wait(now + LATER)
        ack = self.select(offer, now + LATER, **options)
        assert (offer.kind, ack.kind, offer.given) == (Kind.OFFER, Kind.ACK, ack.given)
        return ack.given

    def select(self, offer, now, **options):
        said = {"SERVER": SERVER.packed, "ADDRESS": offer.given.packed, **options}
        return self.ask(Kind.REQUEST, now, options=said)

    def renew(self, address, now):
        return self.ask(Kind.REQUEST, now, client=address, source=address)

    def reboot(self, address, now=0.0):
        return self.ask(Kind.REQUEST, now, options={"ADDRESS": address.packed})


class Told:
    """An answer, read."""

    def __init__(self, answer):
        self.mac, self.address = answer.mac, answer.address
        self.message = read_dhcp_untrusted(answer.payload)
        assert self.message.op == REPLY
        assert self.message.kind == answer.kind
        assert self.message.transaction == 9
        self.kind, self.given = answer.kind, self.message.given

    def says(self, option):
        return self.message.options.get(Option[option])


def test_a_lease_from_nothing():
    core = server(lease_time="1h")
    pc = Machine(core)
    assert pc.ask(Kind.DISCOVER) is None
    look, probe = pc.steps
    assert isinstance(look, Look)
    assert read_dhcp_untrusted(look.payload).mac == OWN
    offer = pc.wait(LATER)
    assert probe == Probe(offer.given)
    assert (offer.kind, offer.mac, offer.address) == (Kind.OFFER, A, offer.given)
    ack = pc.select(offer, 1.0, HOST_NAME=b"Printer.home\0", CLIENT=b"\1abc")
    (step,) = pc.steps
    lease = step.lease
    assert (lease.mac, lease.address, lease.port) == (A, str(ack.given), "home")
    assert (lease.hostname, lease.expires) == ("printer", 3601.0)
    assert not step.renewed
    assert int(ack.given) - int(SUBNET.network_address) in range(128, 255)
    assert ack.says("MASK") == b"\xff\xff\xff\0"
    assert ack.says("MTU") == b"\x05\x78"
    assert ack.says("LEASE_TIME") == (3600).to_bytes(4, "big")
    assert ack.says("RENEWAL") == (1800).to_bytes(4, "big")
    assert ack.says("REBINDING") == (3150).to_bytes(4, "big")
    assert ack.says("CLIENT") == b"\1abc"  # RFC 6842
    assert ack.says("ROUTER") is None
    assert ack.says("DNS") is None


def test_renewing_rebinding_and_coming_back():
    core = server(lease_time="1h")
    pc = Machine(core)
    address = pc.lease()
    ack = pc.renew(address, 1800.0)
    assert (ack.kind, ack.mac, ack.address) == (Kind.ACK, A, address)
    assert pc.steps[0].renewed
    assert pc.steps[0].lease.expires == 5400.0
    assert pc.ask(Kind.REQUEST, 5000.0, client=address).kind == Kind.ACK  # rebinding
    assert pc.reboot(address, 6000.0).kind == Kind.ACK
    again = pc.ask(Kind.DISCOVER, 6001.0)  # its own lease is offered without a probe
    assert (again.kind, again.given) == (Kind.OFFER, address)
    assert pc.select(again, 6002.0).given == address


def test_a_lease_ends_and_the_address_is_the_same_again():
    core = server(lease_time="2m")
    pc = Machine(core)
    address = pc.lease()
    pc.wait(119.0)
    assert pc.steps == []
    pc.wait(200.0)
    assert [(step.lease.mac, type(step)) for step in pc.steps] == [(A, Free)]
    assert core.pool.leases == {}
    assert pc.lease(300.0) == address


def test_a_client_that_is_not_known_any_more_keeps_its_address():
    """The registry is an older one. Nobody else has the address."""
    address = Machine(server()).lease()
    pc = Machine(server())
    assert pc.renew(address, 0.0).kind == Kind.ACK
    assert not pc.steps[0].renewed


@pytest.mark.parametrize("address", ["192.168.1.5", "10.77.0.1", "10.77.0.255", "10.77.0.9"])
def test_an_address_that_it_cannot_have_is_refused(address):
    pc = Machine(server())
    for answer in (pc.reboot(IPv4Address(address)), pc.renew(IPv4Address(address), 0.0)):
        assert (answer.kind, answer.mac, str(answer.address)) == (
            Kind.NAK,
            BROADCAST,
            "255.255.255.255",
        )
        assert answer.message.broadcast
        assert answer.given == NOBODY
        assert answer.says("LEASE_TIME") is None


def test_the_address_of_another_is_refused_and_another_is_offered():
    core = server()
    address = Machine(core).lease()
    other = Machine(core, B, "office")
    assert other.reboot(address).kind == Kind.NAK
    other.ask(Kind.DISCOVER, options={"ADDRESS": address.packed})
    assert other.wait(LATER).given != address


def test_a_wish_is_met():
    pc = Machine(server())
    wish = IPv4Address("10.77.0.200")
    pc.ask(Kind.DISCOVER, options={"ADDRESS": wish.packed})
    assert pc.wait(LATER).given == wish


def test_addresses_of_members_are_never_given():
    core = server(range="10.77.0.10-10.77.0.11")
    core.pool.held = {IPv4Address("10.77.0.10"): "pc1"}
    assert str(Machine(core).lease()) == "10.77.0.11"
    full = Machine(core, B)
    assert full.ask(Kind.DISCOVER) is None
    assert core.drops["dhcp_no_address"] == 1
    assert full.reboot(IPv4Address("10.77.0.10")).kind == Kind.NAK


def test_a_member_that_asks_gets_what_the_switch_gave_it():
    own = IPv4Address("10.77.0.2")
    core = server()
    core.pool.held = {own: "pc1"}
    pc = Machine(core, A, "pc1", own=own)
    assert pc.ask(Kind.DISCOVER).given == own
    assert pc.reboot(own).kind == Kind.ACK
    assert pc.reboot(IPv4Address("10.77.0.200")).kind == Kind.NAK
    assert core.pool.leases == {}


def test_reservations_by_mac_and_by_port():
    kept = {"52:54:00:00:00:0a": "10.77.0.50", "office": "10.77.0.51"}
    core = server(reservations=kept)
    assert str(Machine(core, A, "anywhere").lease()) == "10.77.0.50"
    assert str(Machine(core, B, "office").lease()) == "10.77.0.51"
    assert int(Machine(core, C, "office").lease()) & 0xFF >= 128  # the second one there
    assert Machine(core, C, "home").reboot(IPv4Address("10.77.0.50")).kind == Kind.NAK


def test_broadcasts_for_who_hears_nothing_else():
    core = server()
    pc = Machine(core)
    pc.ask(Kind.DISCOVER, broadcast=True)
    offer = pc.wait(LATER)
    assert (offer.mac, str(offer.address)) == (BROADCAST, "255.255.255.255")


def test_an_address_that_somebody_has_is_not_offered():
    core = server()
    pc = Machine(core)
    pc.ask(Kind.DISCOVER)
    taken = pc.steps[1].address
    steps = core.heard_arp(taken, B, "office", 0.1)
    assert isinstance(steps[0], Probe)
    assert steps[0].address != taken
    assert pc.wait(LATER) is None  # the other one is asked for as long
    assert pc.wait(0.1 + LATER).given == steps[0].address
    # The client itself may have it, and others may have what nobody waits for.
    other = Machine(core, C)
    other.ask(Kind.DISCOVER, 2.0)
    asked = core.pool.offers[C].address
    assert core.heard_arp(asked, C, "home", 2.1) == []
    assert core.heard_arp(taken, B, "office", 2.1) == []
    assert other.wait(2.0 + LATER).given == asked


def test_one_that_answers_every_probe_wears_out():
    core = server()
    pc = Machine(core)
    pc.ask(Kind.DISCOVER)
    for _ in range(leases.MAX_UNUSABLE + 5):
        core.heard_arp(core.pool.offers[A].address, B, "hostile", 0.1)
    assert pc.wait(0.1 + LATER).kind == Kind.OFFER


def test_a_decline_keeps_the_address_out_of_use():
    core = server()
    pc = Machine(core)
    address = pc.lease()
    pc.ask(Kind.DECLINE, 2.0, options={"ADDRESS": address.packed, "SERVER": SERVER.packed})
    assert [step.lease.address for step in pc.steps] == [str(address)]
    assert pc.lease(3.0) != address
    pc.ask(Kind.RELEASE, 4.0, client=IPv4Address(core.pool.leases[A].address))
    assert pc.lease(4.0 + leases.UNUSABLE_TIME) == address


def test_release():
    core = server()
    pc = Machine(core)
    address = pc.lease()
    pc.ask(Kind.RELEASE, 2.0, client=address)
    assert [type(step) for step in pc.steps] == [Free]
    assert core.pool.leases == {}


@pytest.mark.parametrize("kind", [Kind.RELEASE, Kind.DECLINE])
def test_nobody_ends_the_lease_of_another(kind):
    core = server()
    address = Machine(core).lease()
    said = {"client": address} if kind == Kind.RELEASE else {}
    for mac, sender, port in ((A, B, "hostile"), (A, A, "hostile"), (B, B, "hostile")):
        thief = Machine(core, mac, port)
        thief.ask(kind, 2.0, sender=sender, options={"ADDRESS": address.packed}, **said)
        assert thief.steps == []
    assert core.drops["dhcp_spoofed"] == 3
    assert A in core.pool.leases


def test_a_host_with_an_address_asks_for_the_rest():
    core = server(dns="10.77.0.1", domain="lan")
    mine = IPv4Address("10.77.0.40")
    ack = Machine(core).ask(Kind.INFORM, client=mine, source=mine)
    assert (ack.kind, ack.address, ack.given) == (Kind.ACK, mine, NOBODY)
    assert (ack.says("DNS"), ack.says("DOMAIN")) == (SERVER.packed, b"lan")
    assert ack.says("LEASE_TIME") is None
    other = IPv4Address("192.0.2.1")
    assert Machine(core).ask(Kind.INFORM, client=other, source=other) is None
    assert Machine(core).ask(Kind.INFORM, client=mine, source=other) is None


def test_what_clients_are_told():
    core = server(
        router="10.77.0.9",
        dns="10.77.0.1,9.9.9.9",
        domain="lan",
        search=["lan", "example.org"],
        routes=["192.168.1.0/24 via 10.77.0.7"],
        mtu=1300,
    )
    pc = Machine(core)
    everything = bytes((121, 249, 119, 3))
    offer = pc.ask(Kind.DISCOVER, options={"WANTED": everything}) or pc.wait(LATER)
    via = bytes.fromhex("000a4d000918c0a8010a4d0007")
    assert offer.says("ROUTES") == offer.says("OLD_ROUTES") == via
    assert offer.says("SEARCH") == b"\3lan\0\7example\3org\0"
    assert offer.says("ROUTER") == IPv4Address("10.77.0.9").packed
    assert offer.says("MTU") == (1300).to_bytes(2, "big")
    assert offer.says("DNS") is None  # it has not asked
    plain = Machine(core, B)
    offer = plain.ask(Kind.DISCOVER) or plain.wait(LATER)
    assert offer.says("DNS") == SERVER.packed + bytes((9, 9, 9, 9))
    assert offer.says("DOMAIN") == b"lan"


def test_other_offers_are_chosen():
    core = server()
    pc = Machine(core)
    pc.ask(Kind.DISCOVER)
    offer = pc.wait(LATER)
    assert pc.select(offer, 1.0, SERVER=IPv4Address("10.77.0.9").packed) is None
    assert core.drops["dhcp_other_server"] == 1
    assert core.pool.offers == {}


def test_silent_where_another_server_speaks():
    core = server()
    reply = DhcpMessage(
        kind=Kind.OFFER,
        transaction=1,
        mac=OWN,
        op=REPLY,
        options={Option.SERVER: IPv4Address("10.77.0.9").packed},
    )
    router = Asker(Client(B, "router"), IPv4Address("10.77.0.9"))
    assert core.receive_untrusted(build_dhcp(reply), router, 0.0) == []
    assert str(core.other) == "10.77.0.9"
    pc = Machine(core)
    assert pc.ask(Kind.DISCOVER, 1.0) is None
    assert [type(step) for step in pc.steps] == [Look]  # is it still there?
    assert pc.ask(Kind.DISCOVER, 2.0) is None
    assert pc.steps == []
    assert core.drops["dhcp_quiet"] == 2
    assert pc.lease(dhcp.QUIET + 1.0) is not None


def test_answers_of_servers_that_say_nothing_are_dropped():
    core = server()
    for kind, said in ((Kind.OFFER, SERVER.packed), (Kind.NAK, B[:4]), (Kind.OFFER, b"")):
        reply = DhcpMessage(
            kind=kind, transaction=1, mac=OWN, op=REPLY, options={Option.SERVER: said}
        )
        core.receive_untrusted(build_dhcp(reply), Asker(Client(B, "x"), NOBODY), 0.0)
    assert core.drops["dhcp_bad"] == 3
    assert core.other is None


def test_relays_and_clients_that_are_not_who_sends_are_refused():
    core = server()
    pc = Machine(core)
    assert pc.ask(Kind.DISCOVER, relay=IPv4Address("10.9.0.1")) is None
    assert pc.ask(Kind.DISCOVER, sender=B) is None
    assert pc.ask(Kind.OFFER) is None
    assert pc.ask(Kind.REQUEST) is None
    assert core.receive_untrusted(b"\1" * 300, Asker(Client(A, "home"), NOBODY), 0.0) == []
    assert core.drops == {"dhcp_relayed": 1, "dhcp_spoofed": 1, "dhcp_bad": 3}


def test_starvation_takes_no_more_than_the_share_of_a_port():
    core = server(port_limit=20)
    for number in range(200):
        mac = b"\x02\0\0\0" + number.to_bytes(2, "big")
        thief = Machine(core, mac, "hostile")
        thief.ask(Kind.DISCOVER, number / 4)
    assert len(core.pool.offers) == 20
    assert core.drops["dhcp_port_limit"] == 180
    core.tick(55.0)
    assert Machine(core, A, "home").lease(56.0)


def test_a_flood_is_limited_for_its_port_alone():
    core = server()
    thief = Machine(core, B, "hostile")
    for _ in range(500):
        thief.ask(Kind.DISCOVER, 0.0)
    assert core.drops["dhcp_rate"] == 500 - dhcp.MAC_BURST
    core.tick(1.0)
    assert Machine(core, A, "home").lease(1.0)
    # Nor does it cost another machine behind the same port its answer.
    assert Machine(core, C, "hostile").lease(1.0)


def test_invented_machines_are_limited_by_their_port_and_forgotten():
    core = server(port_limit=20)
    neighbour = Machine(core, C, "hostile")
    address = neighbour.lease(0.0)
    for number in range(5000):
        mac = b"\x02\0\0\0" + number.to_bytes(2, "big")
        Machine(core, mac, "hostile").ask(Kind.DISCOVER, number / 1000)
    assert core.drops["dhcp_rate"] >= 5000 - dhcp.BURST - 5 * dhcp.RATE - 1
    # Whoever has a lease behind the same port keeps it; other ports are as ever.
    assert neighbour.renew(address, 5.0).kind is Kind.ACK
    core.tick(6.0)
    assert Machine(core, A, "home").lease(6.0)


def test_a_lease_that_could_not_be_kept_is_gone():
    core = server()
    pc = Machine(core)
    address = pc.lease()
    (step,) = pc.steps
    core.lost(step.lease)
    refusal = Told(step.refusal)
    assert (refusal.kind, refusal.mac) == (Kind.NAK, BROADCAST)
    assert core.pool.leases == {}
    assert core.pool.usable(address, Client(B, "office"), 2.0)


def test_a_port_that_goes():
    core = server()
    Machine(core).lease()
    waits = Machine(core, B)
    waits.ask(Kind.DISCOVER, 2.0)
    assert core.port_down("home", free=False) == []
    assert waits.wait(2.0 + LATER) is None
    assert [step.lease.mac for step in core.port_down("home", free=True)] == [A]


def test_a_short_wish_for_time_is_met():
    core = server(lease_time="1h")
    pc = Machine(core)
    pc.lease(LEASE_TIME=(300).to_bytes(4, "big"))
    assert pc.steps[0].lease.expires == LATER + 300
    pc.lease(10.0, LEASE_TIME=(1).to_bytes(4, "big"))
    assert pc.steps[0].lease.expires == 10.0 + LATER + terms.LEAST_LEASE
    pc.lease(20.0, LEASE_TIME=b"\xff" * 4)
    assert pc.steps[0].lease.expires == 20.0 + LATER + 3600


def test_a_client_that_is_asked_again_while_its_address_is_probed():
    core = server()
    pc = Machine(core)
    pc.ask(Kind.DISCOVER, 0.0)
    pc.ask(Kind.DISCOVER, 0.3)
    assert pc.steps == []
    assert core.deadline() <= dhcp.PROBE
    assert pc.wait(LATER).kind == Kind.OFFER
    assert pc.wait(LATER + 0.1) is None
    assert attrs.asdict(core.pool.offers[A])["until"] == leases.OFFER_TIME


def test_the_first_machine_of_a_name_has_it():
    core = server()
    pool = core.pool
    one, two = Machine(core), Machine(core, B)
    address = one.lease(HOST_NAME=b"printer")
    assert two.lease(1.0, HOST_NAME=b"PRINTER.home") != address
    assert pool.named("printer").mac == A
    assert pool.at(address).mac == A
    one.ask(Kind.RELEASE, 3.0, client=address)
    assert pool.named("printer") is None
    assert pool.at(address) is None
    two.renew(IPv4Address(pool.leases[B].address), 4.0)
    assert pool.named("printer").mac == B
    one.lease(5.0, HOST_NAME=b"no name!")
    assert pool.leases[A].hostname == ""
