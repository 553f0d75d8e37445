"""What the name server knows by itself."""

from ipaddress import IPv4Interface, IPv6Address, IPv6Network, ip_address

import dns.name
import pytest
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from vswitch.errors import ConfigError
from vswitch.services.stateless import ABSENT, MAX_KNOWN, THERE, Stateless
from vswitch.services.zone import MAX_CHASE, Zone

INTERFACE = IPv4Interface("10.77.0.1/24")
RECORDS = (
    "www CNAME pc1",
    "_http._tcp SRV 0 5 80 pc1",
    'info 60 TXT "hello there"',
    "@ MX 10 pc2",
    "*.apps A 10.77.0.9",
    "printer A 10.77.0.200",
    "printer AAAA fd00::200",
)


class Hosts:
    def __init__(self, known, hidden=(), macs=None):
        self.macs = macs or {}
        self.known = {name: [ip_address(each) for each in told] for name, told in known.items()}
        self.hidden = hidden

    def addresses(self, label, asker):
        return None if (label, asker) in self.hidden else self.known.get(label)

    def label(self, address, asker):
        for name, told in self.known.items():
            if address in told and (name, asker) not in self.hidden:
                return name
        return None

    def mac(self, label, asker):
        return None if (label, asker) in self.hidden else self.macs.get(label)

    def label_of_mac(self, mac, asker):
        return next((name for name in self.macs if self.mac(name, asker) == mac), None)


def make(*records, interface=INTERFACE, hidden=()):
    zone = Zone("lan", interface, records or RECORDS)
    known = {"pc1": ["10.77.0.2"], "pc2": ["10.77.0.3", "fd00::3"], "bridge": []}
    zone.hosts.append(Hosts(known, hidden))
    return zone


def ask(zone, name, kind="A", asker="pc1"):
    found = zone.find(dns.name.from_text(name), RdataType.make(kind), asker)
    if found is None:
        return None
    texts = [each.to_text().split(" ", 2)[2] for rrset in found.answer for each in [rrset]]
    return found.rcode, [text.replace("IN ", "", 1) for text in texts]


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("pc1.lan", "A", ["A 10.77.0.2"]),
        ("PC1.Lan", "A", ["A 10.77.0.2"]),
        ("pc2.lan", "AAAA", ["AAAA fd00::3"]),
        ("services.lan", "A", ["A 10.77.0.1"]),
        ("lan", "NS", ["NS services.lan."]),
        ("www.lan", "A", ["CNAME pc1.lan.", "A 10.77.0.2"]),
        ("www.lan", "CNAME", ["CNAME pc1.lan."]),
        ("_http._tcp.lan", "SRV", ["SRV 0 5 80 pc1.lan."]),
        ("info.lan", "TXT", ['TXT "hello there"']),
        ("lan", "MX", ["MX 10 pc2.lan."]),
        ("x.apps.lan", "A", ["A 10.77.0.9"]),
        ("a.b.apps.lan", "A", ["A 10.77.0.9"]),
        ("printer.lan", "AAAA", ["AAAA fd00::200"]),
        ("pc1.lan", "ANY", ["A 10.77.0.2"]),
        ("2.0.77.10.in-addr.arpa", "PTR", ["PTR pc1.lan."]),
        ("1.0.77.10.in-addr.arpa", "PTR", ["PTR services.lan."]),
        ("200.0.77.10.in-addr.arpa", "PTR", ["PTR printer.lan."]),
        (dns.reversename.from_address("fd00::3").to_text(), "PTR", ["PTR pc2.lan."]),
        ("0.77.10.in-addr.arpa", "NS", ["NS services.lan."]),
    ],
)
def test_what_is_there(name, kind, answer):
    assert ask(make(), name, kind) == (Rcode.NOERROR, answer)


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("pc1.lan", "AAAA", Rcode.NOERROR),
        ("bridge.lan", "A", Rcode.NOERROR),  # a member without an address
        ("_tcp.lan", "A", Rcode.NOERROR),  # there is something below it
        ("apps.lan", "A", Rcode.NOERROR),
        ("nobody.lan", "A", Rcode.NXDOMAIN),
        ("x.pc1.lan", "A", Rcode.NXDOMAIN),
        ("9.0.77.10.in-addr.arpa", "PTR", Rcode.NXDOMAIN),
        ("2.0.77.10.in-addr.arpa", "A", Rcode.NOERROR),
        ("0.77.10.in-addr.arpa", "A", Rcode.NOERROR),
    ],
)
def test_what_is_not_there_is_said_with_the_soa(name, kind, rcode):
    zone = make()
    found = zone.find(dns.name.from_text(name), RdataType.make(kind), "pc1")
    assert (found.rcode, found.answer) == (rcode, [])
    (soa,) = found.authority
    assert soa.rdtype == RdataType.SOA
    assert dns.name.from_text(name).is_subdomain(soa.name)


@pytest.mark.parametrize(
    "name", ["example.com", "lan.example", "2.1.77.10.in-addr.arpa", "xlan", "arpa"]
)
def test_what_is_of_others(name):
    assert ask(make(), name, "PTR") is None


def test_the_addresses_of_what_a_record_names_come_along():
    zone = make()
    found = zone.find(dns.name.from_text("_http._tcp.lan"), RdataType.SRV)
    assert [each.to_text() for each in found.additional] == ["pc1.lan. 30 IN A 10.77.0.2"]


def test_who_may_not_know_of_a_member_is_told_that_there_is_none():
    zone = make(hidden={("pc2", "pc1")})
    assert ask(zone, "pc2.lan")[0] == Rcode.NXDOMAIN
    assert ask(zone, "3.0.77.10.in-addr.arpa", "PTR")[0] == Rcode.NXDOMAIN
    assert ask(zone, "pc2.lan", asker="pc3") == (Rcode.NOERROR, ["A 10.77.0.3"])


def test_the_reverse_of_a_subnet_that_ends_inside_an_octet():
    zone = make(interface=IPv4Interface("10.77.16.1/20"))
    assert ask(zone, "9.17.77.10.in-addr.arpa", "PTR")[0] == Rcode.NXDOMAIN
    assert ask(zone, "9.32.77.10.in-addr.arpa", "PTR") is None
    assert ask(zone, "1.16.77.10.in-addr.arpa", "PTR")[1] == ["PTR services.lan."]


def test_records_of_ones_own_come_first_and_circles_end():
    zone = make("pc1 A 10.77.0.77", "pc1 A 10.77.0.78")
    assert ask(zone, "pc1.lan") == (Rcode.NOERROR, ["A 10.77.0.77\npc1.lan. 300 IN A 10.77.0.78"])
    zone = make("a CNAME b", "b CNAME a")
    assert ask(zone, "a.lan") == (Rcode.SERVFAIL, [])
    chain = [f"n{number} CNAME n{number + 1}" for number in range(MAX_CHASE)]
    zone = make(*chain, f"n{MAX_CHASE} A 10.77.0.5")
    assert ask(zone, "n0.lan")[1][-1] == "A 10.77.0.5"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("www", "NAME"),
        ("www A 10.77.0.300", "NAME"),
        ("www.example.com. A 10.77.0.2", "not below lan"),
        ("www CNAME www.example.com.", "points to a name below"),
        ("@ SOA a b 1 2 3 4 5", "own business"),
        ("@ CNAME pc1", "own business"),
        ("$INCLUDE /etc/passwd", "NAME"),
    ],
)
def test_records_that_cannot_be(record, said):
    with pytest.raises(ConfigError, match=said) as caught:
        make("ok A 10.77.0.2", record)
    assert str(caught.value).startswith("names.records[2] = ")


def test_a_name_with_a_cname_has_nothing_else():
    for records in (("a CNAME b", "a A 10.77.0.2"), ("a A 10.77.0.2", "a CNAME b")):
        with pytest.raises(ConfigError, match="nothing else"):
            make(*records)


# --- Addresses that hosts give themselves -------------------------------------------------------

PREFIX = IPv6Network("fd00:77::/64")
MAC = bytes.fromhex("020000000001")
ITS = IPv6Address("fd00:77::ff:fe00:1")  # that follows from it
REVERSE = "1.0.0.0.0.0.e.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.7.0.0.0.0.d.f.ip6.arpa"


@pytest.fixture
def six():
    stateless = Stateless(PREFIX, IPv6Address("fd00:77::53"))
    zone = Zone("lan", INTERFACE, ["www CNAME pc1"], stateless=stateless)
    zone.hosts.append(Hosts({"pc1": ["10.77.0.2"], "pc2": []}, {("pc1", "far")}, {"pc1": MAC}))
    return zone


def unsure(zone, name, kind="AAAA", asker="pc2", now=0.0):
    asked = dns.name.from_text(name), RdataType.make(kind)
    return zone.unsure(*asked, zone.find(*asked, asker, now), asker, now)


def test_a_host_has_an_aaaa_once_it_was_found_to_have_it(six):
    assert unsure(six, "pc1.lan") == unsure(six, "www.lan") == ITS
    assert ask(six, "pc1.lan", "AAAA") == (Rcode.NOERROR, [])
    six.stateless.learned(ITS, True, 0.0)
    assert unsure(six, "pc1.lan") is None
    assert ask(six, "pc1.lan", "AAAA") == (Rcode.NOERROR, [f"AAAA {ITS}"])
    assert ask(six, "www.lan", "AAAA") == (Rcode.NOERROR, ["CNAME pc1.lan.", f"AAAA {ITS}"])
    assert ask(six, "pc1.lan", "A") == (Rcode.NOERROR, ["A 10.77.0.2"])
    assert unsure(six, "pc1.lan", now=THERE) == ITS


def test_who_was_found_to_have_none_is_not_asked_for_a_while(six):
    six.stateless.learned(ITS, False, 0.0)
    assert ask(six, "pc1.lan", "AAAA") == (Rcode.NOERROR, [])
    assert unsure(six, "pc1.lan", now=ABSENT - 1) is None
    assert unsure(six, "pc1.lan", now=ABSENT) == ITS


@pytest.mark.parametrize(
    ("name", "kind", "asker"),
    [
        ("pc1.lan", "A", "pc2"),
        ("pc1.lan", "AAAA", "far"),  # may not know of it
        ("pc2.lan", "AAAA", "pc1"),  # its MAC is not known: away, or a bridge
        ("nobody.lan", "AAAA", "pc1"),
        ("services.lan", "AAAA", "pc1"),
        ("pc1.example", "AAAA", "pc1"),
    ],
)
def test_nobody_is_asked_where_the_answer_is_known(six, name, kind, asker):
    found = six.find(dns.name.from_text(name), RdataType.make(kind), asker)
    assert found is None or unsure(six, name, kind, asker) is None


def test_the_reverse_of_the_prefix(six):
    assert ask(six, REVERSE, "PTR", "pc2") == (Rcode.NOERROR, ["PTR pc1.lan."])
    assert ask(six, REVERSE, "PTR", "far") == (Rcode.NXDOMAIN, [])
    own = "3.5" + ".0" * 14 + ".0.0.0.0.0.0.0.0.7.7.0.0.0.0.d.f.ip6.arpa"
    assert ask(six, own, "PTR") == (Rcode.NOERROR, ["PTR services.lan."])
    assert ask(six, "services.lan", "AAAA") == (Rcode.NOERROR, ["AAAA fd00:77::53"])
    assert ask(six, "e.f" + REVERSE[REVERSE.index(".f.f.0") :], "PTR") == (Rcode.NOERROR, [])
    assert ask(six, "x." + REVERSE[2:], "PTR") == (Rcode.NXDOMAIN, [])
    assert ask(six, "8" + REVERSE[1:].replace("7.7.0", "8.7.0"), "PTR") is None


def test_what_is_known_of_addresses_is_bounded():
    stateless = Stateless(PREFIX)
    for number in range(2 * MAX_KNOWN):
        stateless.learned(PREFIX[number], True, 0.0)
    assert stateless.has(PREFIX[0], 0.0) is None
    assert stateless.has(PREFIX[2 * MAX_KNOWN - 1], 0.0) is True
    assert len(stateless._known) == MAX_KNOWN


def test_a_mac_and_its_address_follow_from_each_other():
    stateless = Stateless(PREFIX)
    assert stateless.of(MAC) == ITS
    assert stateless.mac(ITS) == MAC
    assert stateless.mac(PREFIX[1]) is None
    assert stateless.mac(IPv6Address("fd00:78::ff:fe00:1")) is None


@pytest.mark.parametrize("label", ["wpad", "isatap", "localhost"])
def test_no_host_is_what_programs_ask_for_by_themselves(label):
    for records in (("x A 10.77.0.9",), (f"{label} A 10.77.0.9",)):
        zone = make(*records)
        zone.hosts.append(Hosts({label: ["10.77.0.66"]}))
        own = records[0].startswith(label)
        answer = (Rcode.NOERROR, ["A 10.77.0.9"]) if own else (Rcode.NXDOMAIN, [])
        assert ask(zone, f"{label}.lan") == answer
