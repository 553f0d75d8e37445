"""Which frames somebody wants to see: `host 10.77.0.2 and not port 22`.

    filter = filter or filter | filter and filter | not filter | ( filter ) | term
    term   = host A | src A | dst A     a MAC or IP address, or an IP network; also those in ARP
             type T                     EtherType: 0x88b5, or ip, ip6, arp, vlan and so on
             vlan N | vlan              with that VLAN id in any tag; tagged at all
             port N                     of TCP or UDP, either side
             proto N                    IP protocol by number
             broadcast | multicast      multicast is any group address
             ip | ip6 | arp | tcp | udp | icmp | icmp6 | igmp

Spellings of tcpdump mean the same: `net N`, `src host A`, `dst net N`, `src port N`,
`ether host M`, `ether proto T`, `proto tcp`, a protocol right before such a term (`tcp port 80`,
for `tcp and port 80`), and `!`, `&&`, `||`.

`not` binds closer than `and`, that closer than `or`. What a frame does not have, or is cut off
before, does not match: so `port` never matches a later fragment. Tags are looked through, two deep;
IPv6 extension headers too.

Pure. `parse_filter_untrusted` raises `ValueError` with the reason; a filter raises nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import reduce

from vswitch.frames.ethernet import BROADCAST, parse_mac
from vswitch.frames.headers import ETHERTYPES, PROTOCOLS, Facts, facts_of

MAX_TEXT = 1000  # characters
MAX_DEPTH = 32  # of parentheses and `not`

Filter = Callable[[bytes], bool]  # of a frame, without FCS
_Test = Callable[[Facts], bool]
_SIGNS = {"(": "(", ")": ")", "!": "not", "&&": "and", "||": "or"}
_QUALIFIED = ("host", "net", "src", "dst", "port", "proto")  # what a protocol may stand before
_SIDES = {"host": (0, 1), "net": (0, 1), "dst": (0,), "src": (1,)}  # of MAC addresses in a frame


def parse_filter_untrusted(text: str) -> Filter:
    """The filter that a text means; an empty one takes every frame."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a filter has at most {MAX_TEXT} characters")
    text = text.lower()
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    words = text.split()
    if not words:
        return every_frame
    parser = _Parser(words)
    test = parser.any_of(0)
    if parser.words:
        raise ValueError(f"{parser.words[0]!r} is not expected here: join terms by and, or")
    return lambda frame: test(facts_of(frame))


def every_frame(frame: bytes) -> bool:
    """What an empty text means."""
    return True


class _Parser:
    def __init__(self, words: list[str]) -> None:
        self.words = words

    def any_of(self, depth: int) -> _Test:
        tests = [self._all_of(depth)]
        while self._next_is("or"):
            tests.append(self._all_of(depth))
        return reduce(_either, tests)

    def _all_of(self, depth: int) -> _Test:
        tests = [self._one(depth)]
        while self._next_is("and"):
            tests.append(self._one(depth))
        return reduce(_both, tests)

    def _one(self, depth: int) -> _Test:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self._next_is("not"):
            return _opposite(self._one(depth + 1))
        if self._next_is("("):
            test = self.any_of(depth + 1)
            if not self._next_is(")"):
                raise ValueError("a ) is missing")
            return test
        return self._term()

    def _term(self) -> _Test:
        word = self._word("a term")
        if word == "ether":
            if self._next_is("proto"):
                return _ethertype(self._word("a type behind ether proto"))
            word = self._word("host, src, dst or proto behind ether")
        if word in _SIDES:
            if word in ("src", "dst"):
                if self._next_is("port"):
                    port = _number("port", self._word("a number behind port"), 0xFFFF)
                    side = slice(0, 1) if word == "src" else slice(1, 2)
                    return lambda facts: facts.ports[side] == (port,)
                if not self._next_is("host"):
                    self._next_is("net")
            return _address(word, self._word(f"an address behind {word}"))
        if word == "type":
            return _ethertype(self._word("a type behind type"))
        if word == "vlan":
            if self.words and self.words[0].isascii() and self.words[0].isdigit():
                vlan = _number("vlan", self.words.pop(0), 0xFFF)
                return lambda facts: vlan in facts.vlans
            return lambda facts: bool(facts.vlans)
        if word == "port":
            port = _number("port", self._word("a number behind port"), 0xFFFF)
            return lambda facts: port in facts.ports
        if word == "proto":
            said = self._word("a number or name behind proto")
            named = PROTOCOLS.get(said)
            return _protocol(_number("proto", said, 0xFF) if named is None else named)
        if word in PROTOCOLS or word in ("ip", "ip6", "arp"):
            test = _protocol(PROTOCOLS[word]) if word in PROTOCOLS else _ethertype(word)
            if self.words and self.words[0] in _QUALIFIED:
                return _both(test, self._term())
            return test
        if word == "broadcast":
            return lambda facts: facts.destination == BROADCAST
        if word == "multicast":
            return lambda facts: bool(facts.destination[:1]) and bool(facts.destination[0] & 1)
        raise ValueError(
            f"{word!r} is no term: host, src, dst, type, vlan, port, proto, broadcast, multicast, "
            f"ip, ip6, arp, {', '.join(PROTOCOLS)}"
        )

    def _next_is(self, word: str) -> bool:
        if self.words and self.words[0] == word:
            self.words.pop(0)
            return True
        return False

    def _word(self, what: str) -> str:
        if not self.words:
            raise ValueError(f"{what} is missing at the end")
        return self.words.pop(0)


def _either(one: _Test, other: _Test) -> _Test:
    return lambda facts: one(facts) or other(facts)


def _both(one: _Test, other: _Test) -> _Test:
    return lambda facts: one(facts) and other(facts)


def _opposite(test: _Test) -> _Test:
    return lambda facts: not test(facts)


def _protocol(number: int) -> _Test:
    return lambda facts: facts.protocol == number


def _ethertype(text: str) -> _Test:
    number = ETHERTYPES.get(text)
    if number is None:
        number = _number("type", text, 0xFFFF)
    if number == ETHERTYPES["vlan"]:
        return lambda facts: bool(facts.vlans)
    return lambda facts: facts.ethertype == number


def _address(side: str, text: str) -> _Test:
    places = _SIDES[side]
    try:
        mac = parse_mac(text)
    except ValueError:
        pass
    else:
        if places == (0, 1):
            return lambda facts: mac in (facts.destination, facts.source)
        if places == (0,):
            return lambda facts: facts.destination == mac
        return lambda facts: facts.source == mac
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no MAC address, IP address or network") from None
    size = network.max_prefixlen // 8
    low, high = network.network_address.packed, network.broadcast_address.packed

    def inside(address: bytes) -> bool:
        return len(address) == size and low <= address <= high

    if places == (0, 1):
        return lambda facts: inside(facts.to_ip) or inside(facts.from_ip)
    if places == (0,):
        return lambda facts: inside(facts.to_ip)
    return lambda facts: inside(facts.from_ip)


def _number(what: str, text: str, most: int) -> int:
    try:
        if not text.isascii() or "_" in text or len(text) > 10:
            raise ValueError
        number = int(text, 16) if text.startswith("0x") else int(text, 10)
    except ValueError:
        raise ValueError(f"{what} {text!r}: not a number") from None
    if not 0 <= number <= most:
        raise ValueError(f"{what} {text}: 0 to {most}")
    return number
