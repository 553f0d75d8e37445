"""Rules between ports, as the operator writes them (`rule_set.py`): who may begin what with whom.

A rule looks at the port where a frame came in and at the one where it is about to leave, so that no
address that somebody makes up opens anything, and a flood reaches those alone who may have it. The
first packet is asked of the rules; from then on its flow passes both ways:

    TCP, UDP, SCTP   addresses and ports
    ICMP             an echo and its replies, by identifier; errors about a flow that passes, to
                     who has sent that; nothing else is answered
    others           the addresses

Two ports between which nothing is denied cost one look a batch, and keep no state. What is never
asked, since no LAN works without: ARP, and whatever is no IP; IGMP, MLD and neighbour discovery.
What the switch's own services say and hear is theirs to decide.

Fragments pass after their first one, which must hold all that decides, and none over that (RFC
1858, 3128, 5722). What cannot be followed is dropped: `rule_undetermined`.

State is bounded for each port that begins flows. One that begins too many loses its own: the oldest
that are not answered, or over. Where too many go on, it denies itself (`rule_flows`). When rules
change, flows stay that the new ones would let begin. Nothing here raises for any bytes.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from itertools import islice
from typing import ClassVar, Final, Literal

import attrs

from vswitch.features.base import Feature, Stages
from vswitch.features.rule_keys import (
    ENDS,
    SYN,
    SYN_ACK,
    Fragment,
    Key,
    Passing,
    rule_key_untrusted,
)
from vswitch.features.rule_set import Question, Rule, RuleSet, decide
from vswitch.frames.ethernet import TAG_SIZE
from vswitch.frames.headers import (
    ETHERTYPE_AT,
    IPV6_TYPE,
)
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE
from vswitch.frames.virtio import FRAME_AT, TCP, UDP, stands_for
from vswitch.registry.rules import LOCAL_PORT, PUBLISH_PORT, SERVICES_PORT
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

MAX_FLOWS: Final = 8192  # that one port has begun
MAX_FLOWS_OF_ALL: Final = 65_536  # some 45 MB; beyond, each port has its share of them
MAX_FRAGMENTED: Final = 64  # packets in fragments from one port to another
FRAGMENTS_FOR: Final = 30.0  # s: as long as hosts put them together (RFC 1122 has 60 to 120)
UNANSWERED: Final = 60.0  # s
ENDED: Final = 60.0  # s after a FIN or a reset
IDLE: Final = {TCP: 7440.0, UDP: 300.0}  # s (RFC 5382, RFC 4787)
IDLE_OTHERS: Final = 60.0
LOOKS: Final = 8  # flows of a port without room that are looked at for a new one
EXPIRY: Final = 10  # ticks between two looks at all that is idle

_WHOLE = frozenset({b"\0\0", b"\x40\0"})  # flags and offset of what is no fragment
_TAG = b"\x81\x00"
# EtherType and first byte, flags and offset, protocol, addresses with ports; of IPv4 in a record
# of one frame.
_HEADERS = struct.Struct(">3s5xHxB2x12s")
_HEADERS_AT = HEADER_SIZE + ETHERTYPE_AT
_HEADERS_END = _HEADERS_AT + _HEADERS.size
_FLAGS_AT = _HEADERS_END + 9  # of TCP
_MAY_HAVE = 0x4000  # of flags and offset: "do not fragment"
_PLAIN_IPV4 = b"\x08\x00\x45"
# Of a flow that is known: what changes it, or begins another one.
_CHANGES = frozenset(
    bytes((flags,)) for flags in range(256) if flags & ENDS or flags & SYN_ACK == SYN
)
_NONE = (-FRAGMENTS_FOR, 0)  # no first fragment


class RuleDrop(Drop):
    """Counted at the port where the frame was to go out."""

    RULE_DENIED = "rule_denied"  # no rule lets its port begin that there: see `vswitch rules`
    RULE_UNDETERMINED = "rule_undetermined"  # rules cannot see what a host would make of it
    RULE_FLOWS = "rule_flows"  # its port has begun more than is kept in mind for one


@attrs.frozen(kw_only=True, slots=False)
class RuleSwitchSettings:
    """Of the switch; a table of its own in a file, and no option."""

    rules: RuleSet = attrs.field(factory=RuleSet)


@attrs.define(eq=False)
class Flow:
    """One that was let begin."""

    pair: Pair  # the way of its first packet
    key: Key
    seen: float  # when something of it has passed
    answered: bool = False
    ended: bool = False

    def over(self, now: float) -> bool:
        """Whether it is to be forgotten."""
        if not self.answered:
            return now - self.seen > UNANSWERED
        if self.ended:
            return now - self.seen > ENDED
        return now - self.seen > IDLE.get(self.key.protocol, IDLE_OTHERS)


class Free:
    """Two ports between which nothing is denied, either way."""

    free: ClassVar[Literal[True]] = True


@attrs.define(eq=False)
class Pair:
    """What may go from one port to another, between which something is denied."""

    free: ClassVar[Literal[False]] = False

    source: Port
    to: Port
    rules: tuple[Rule, ...]
    # What passes this way, by protocol and key, and answers that have not come yet.
    flows: dict[int, dict[bytes, Flow]] = attrs.field(factory=lambda: defaultdict(dict))
    expected: dict[int, dict[bytes, Flow]] = attrs.field(factory=lambda: defaultdict(dict))
    # Of packets in fragments: when the first one has passed, and where others may at least begin.
    fragments: dict[bytes, tuple[float, int]] = attrs.field(factory=dict)
    back: Pair = attrs.field(init=False, repr=False)  # the other way


def _known(record: bytes, flows: Mapping[int, Mapping[bytes, Flow]]) -> Flow | None:
    """The flow of whole TCP or UDP, if it is one of these and goes on as it is; also of
    superframes, with a tag, and in IPv6. HOT PATH of those.
    """
    at = (HEADER_SIZE if record[1] == FRAME_FLAG else FRAME_AT) + ETHERTYPE_AT
    if record[at : at + 2] == _TAG:
        at += TAG_SIZE
    if record[at : at + 3] == _PLAIN_IPV4:
        if record[at + 8 : at + 10] not in _WHOLE:
            return None
        protocol, key, upper = record[at + 11 : at + 12], record[at + 14 : at + 26], at + 22
    elif record[at : at + 2] == IPV6_TYPE:
        protocol, key, upper = record[at + 8 : at + 9], record[at + 10 : at + 46], at + 42
    else:
        return None
    if protocol == b"\x11":
        return flows[UDP].get(key)
    if protocol != b"\x06":
        return None
    flow = flows[TCP].get(key)
    return None if record[upper + 13 : upper + 14] in _CHANGES else flow


class RuleStage:
    """At a port where frames leave: drops what may not go there."""

    def __init__(self, feature: PortRules, port: Port) -> None:
        self._feature = feature
        self._port = port
        self.pairs: dict[int, Pair | Free] = {}  # by the port where frames came in

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """The records that may leave here. HOT PATH."""
        source = self._feature.source
        if source is None:
            return records
        pair = self.pairs.get(source.number) or self._feature.pair(source, self._port)
        if pair.free:
            return records
        flows, unpack, tcp, udp = pair.flows, _HEADERS.unpack_from, pair.flows[TCP], pair.flows[UDP]
        dropped: set[int] = set()
        for number, record in enumerate(records):
            flow = None
            if record[1] == FRAME_FLAG and len(record) >= _HEADERS_END:
                # In short for what most are.
                start, fragment, protocol, key = unpack(record, _HEADERS_AT)
                if start == _PLAIN_IPV4 and not fragment & ~_MAY_HAVE:
                    if protocol == UDP:
                        flow = udp.get(key)
                    elif protocol == TCP:
                        flow = tcp.get(key)
                        if flow is not None and record[_FLAGS_AT : _FLAGS_AT + 1] in _CHANGES:
                            flow = None
            if flow is None:
                flow = _known(record, flows)
            if flow is not None:
                flow.seen = now
                continue
            reason, _ = self._feature.decide(pair, record, now, keep=True)
            if reason is not None:
                counters.drop(reason, stands_for(record))
                dropped.add(number)
        if not dropped:
            return records
        return [record for number, record in enumerate(records) if number not in dropped]

    def explain(self, record: bytes, now: float) -> Explained:
        """What the rules say of this one."""
        source = self._feature.source
        if source is None:
            return Explained(record, "")
        pair = self._feature.pair(source, self._port)
        if pair.free:
            return Explained(record, "")
        reason, why = self._feature.decide(pair, record, now, keep=False)
        if reason is None:
            return Explained(record, why)
        return Explained(None, f"{reason}: {why}", reason)

    def forget(self, number: int) -> None:
        """That port is gone."""
        self.pairs.pop(number, None)

    def clear(self) -> None:
        """Go by other rules."""
        self.pairs.clear()


class _Arrival:
    """The last stage where frames come in: from where those are that leave until the next batch."""

    def __init__(self, feature: PortRules, port: Port) -> None:
        self._feature, self._port = feature, port

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """All of them. HOT PATH."""
        self._feature.source = self._port
        return records

    def explain(self, record: bytes, now: float) -> Explained:
        """Nothing, but from where it is."""
        self._feature.source = self._port
        return Explained(record, "")


class PortRules(Feature[RuleSwitchSettings, object]):
    """The rules of one switch, and the flows that pass by them."""

    def __init__(self, switch: Switch) -> None:
        self.source: Port | None = None  # where those frames came in that leave now
        self._switch = switch
        self._members: frozenset[str] = frozenset()
        self._former: Mapping[str, str] = {}  # names that members had, with those that they have
        self._set = RuleSet()
        self._stages: dict[int, RuleStage] = {}  # by the port where frames leave
        # By the port that began them, in the order in which they were begun, or looked at.
        self._begun: dict[int, OrderedDict[Flow, None]] = {}
        self._flows = 0  # all of them
        self._free = Free()
        self._ticks = 0

    @property
    def rules(self) -> RuleSet:
        """Those in force."""
        return self._set

    def count_flows(self) -> int:
        """How many are kept in mind."""
        return self._flows

    def unknown_names(self) -> list[str]:
        """What rules name and no member, nor any port that is there, is called."""
        there = {name for port in self._switch.ports for name in self._names(port)}
        known = there | self._members | self._former.keys() | {LOCAL_PORT, PUBLISH_PORT}
        return sorted(self._set.named - known)

    # Settings.

    def reserved(self, macs: Mapping[bytes, str], addresses: Mapping[bytes, str]) -> None:
        """Who the members are, connected or not."""
        self._members = frozenset(macs.values())

    def settings_changed(self, switch: RuleSwitchSettings, ports: object) -> bool:
        """Go by other rules. Where there is nothing to forbid no port has a stage."""
        if switch.rules is self._set:
            return False
        before, self._set = self._set.forbids, switch.rules
        self._judge_again()
        return before != self._set.forbids

    def renamed(self, former: Mapping[str, str]) -> None:
        """Rules go on to mean members by their former names, until others are called so."""
        if former != self._former:
            self._former = dict(former)
            self._judge_again()

    def _judge_again(self) -> None:
        """Go by other rules or names, with the flows that may begin by these."""
        flows = [flow for begun in self._begun.values() for flow in begun]
        self._begun.clear()
        self._flows = 0
        for stage in self._stages.values():
            stage.clear()
        if self._set.forbids:
            for flow in flows:
                self._begin_again(flow)
        else:
            self._stages.clear()
            self.source = None

    def _begin_again(self, flow: Flow) -> None:
        pair = self.pair(flow.pair.source, flow.pair.to)
        if not pair.free and decide(pair.rules, self._asked(pair, flow.key), self._set.allow)[0]:
            flow.pair = pair
            self._keep(flow)

    # Ports.

    def port_stages(self, port: Port, settings: object) -> Stages:
        """From where, and what may leave."""
        if not self._set.forbids:
            return Stages()
        return Stages(_Arrival(self, port), self._stage(port))

    def _stage(self, port: Port) -> RuleStage:
        found = self._stages.get(port.number)
        if found is None:
            found = self._stages[port.number] = RuleStage(self, port)
        return found

    def port_down(self, number: int) -> None:
        """What it has begun is over, and what was begun with it."""
        for flow in [flow for begun in self._begun.values() for flow in begun]:
            if number in (flow.pair.source.number, flow.pair.to.number):
                self._forget(flow)
        self._stages.pop(number, None)
        for stage in self._stages.values():
            stage.forget(number)
        if self.source is not None and self.source.number == number:
            self.source = None

    def tick(self, now: float) -> None:
        """Forget what is idle."""
        self._ticks += 1
        if self._ticks % EXPIRY == 0:
            for number in list(self._begun):
                self._expire(number, now)

    # Frames.

    def pair(self, source: Port, to: Port) -> Pair | Free:
        """The way from one port to the other, which is made the first time."""
        forth, back = self._stage(to).pairs, self._stage(source).pairs
        found = forth.get(source.number)
        if found is not None:
            return found
        ends, starts = self._names(to), self._names(source)
        there, here = self._set.between(starts, ends), self._set.between(ends, starts)
        both = self._set.allow and all(rule.allow for rule in (*there, *here))
        if both or SERVICES_PORT in (source.name, to.name):
            forth[source.number] = back[to.number] = self._free
            return self._free
        pair, other = Pair(source, to, there), Pair(to, source, here)
        pair.back, other.back = other, pair
        forth[source.number], back[to.number] = pair, other
        return pair

    def decide(
        self, pair: Pair, record: bytes, now: float, *, keep: bool
    ) -> tuple[RuleDrop | None, str]:
        """Whether a record may go that way: why it is dropped, and a line for people. `keep`: it
        does go; else nothing changes.
        """
        key = rule_key_untrusted(record)
        if key is Passing:
            return None, ""
        if isinstance(key, Fragment):
            since, least = pair.fragments.get(key.packet, _NONE)
            if now - since >= FRAGMENTS_FOR:
                why = "a fragment, of which the first one has not passed"
            elif key.start < least:
                why = "a fragment over what was looked at in the first one"
            else:
                return None, "a fragment, of which the first one has passed"
            return RuleDrop.RULE_UNDETERMINED, why
        if not isinstance(key, Key):
            return RuleDrop.RULE_UNDETERMINED, "its headers cannot be followed, or end too soon"
        reason, why = self._ask(pair, key, now, stands_for(record) if keep else 0)
        if reason is None and keep and key.fragments is not None:
            _follow(pair, key.fragments, now)
        return reason, why

    def _ask(self, pair: Pair, key: Key, now: float, frames: int) -> tuple[RuleDrop | None, str]:
        """`frames`: as how many it goes that way; 0 where it does not, and nothing changes."""
        flows, expected = pair.flows[key.protocol], pair.expected[key.protocol]
        flow = flows.get(key.forth) or expected.get(key.forth)
        if flow is not None and not (key.opens and flow.answered):
            if frames:
                flow.seen = now
                flow.ended = flow.ended or key.ends
                if expected.pop(key.forth, None) is not None:
                    flows[key.forth] = flow
                    flow.answered = True
            return None, "of a flow that may pass"
        if key.inner is not None:
            protocol, inner = key.inner
            if inner in pair.back.flows[protocol]:
                return None, "an error about a flow that may pass"
        allowed, rule = decide(pair.rules, self._asked(pair, key), self._set.allow)
        middle = key.protocol == TCP and not key.opens
        if allowed and middle and (opener := self._denied_opener(pair, key)) is not None:
            allowed, rule = opener
        why = self._set.number(rule)
        if not allowed:
            if rule is not None:
                rule.denied += frames
            return RuleDrop.RULE_DENIED, why
        begins = key.forth and not key.reply and not _is_group(key.question.to_ip)
        if frames and flow is not None:  # its ports are used again
            self._forget(flow)
        if begins and not self._has_room(pair.source.number, now, frames > 0):
            why = f"{pair.source.name} has begun as many flows as it may"
            return RuleDrop.RULE_FLOWS, why
        if frames and begins:
            self._keep(Flow(pair, key, now))
        if frames and rule is not None:
            rule.allowed += 1
        return None, why

    def _denied_opener(self, pair: Pair, key: Key) -> tuple[bool, Rule | None] | None:
        """What the rules say of the other side of a connection that nobody knows, such as one from
        before them, if that has opened it and may not. Else a server would go on with it. Who opens
        has the higher port, as a rule (RFC 6056).
        """
        ours, others = key.forth[-4:-2], key.forth[-2:]
        if ours >= others:
            return None
        asked = key.question
        opened = Question(
            self._names(pair.to),
            self._names(pair.source),
            asked.to_ip,
            asked.source_ip,
            TCP,
            int.from_bytes(ours),
        )
        allowed, rule = self._set.judge(opened)
        return None if allowed else (allowed, rule)

    def _names(self, port: Port) -> tuple[str, ...]:
        """All that rules may call it."""
        former = [old for old, name in self._former.items() if name == port.name]
        return (port.name, port.group, *former) if port.group else (port.name, *former)

    def _asked(self, pair: Pair, key: Key) -> Question:
        source, to = self._names(pair.source), self._names(pair.to)
        return attrs.evolve(key.question, source=source, to=to)

    def _has_room(self, number: int, now: float, keep: bool) -> bool:
        """Whether that port may begin another flow, if need be in place of an older one. Looks at
        few, so that a flood costs little: who is passed over has its turn again after all others.
        """
        begun, limit = self._begun.get(number), MAX_FLOWS
        if begun is None:
            return True
        if self._flows >= MAX_FLOWS_OF_ALL:
            limit = min(limit, MAX_FLOWS_OF_ALL // len(self._begun))
        found = len(begun) < limit
        for flow in [] if found else list(islice(begun, LOOKS)):
            if not flow.answered or flow.ended or flow.over(now):
                found = True
                if keep:
                    self._forget(flow)
                if len(begun) < limit:
                    break
            elif keep:
                begun.move_to_end(flow)
        return found

    def _keep(self, flow: Flow) -> None:
        pair, key = flow.pair, flow.key
        back = pair.back.flows if flow.answered else pair.back.expected
        pair.flows[key.protocol][key.forth] = back[key.protocol][key.back] = flow
        self._begun.setdefault(pair.source.number, OrderedDict())[flow] = None
        self._flows += 1

    def _expire(self, number: int, now: float) -> None:
        for flow in [flow for flow in self._begun[number] if flow.over(now)]:
            self._forget(flow)

    def _forget(self, flow: Flow) -> None:
        pair, key = flow.pair, flow.key
        protocol = key.protocol
        for table, name in (
            (pair.flows[protocol], key.forth),
            (pair.back.flows[protocol], key.back),
            (pair.back.expected[protocol], key.back),
        ):
            if table.get(name) is flow:
                del table[name]
        begun = self._begun[pair.source.number]
        del begun[flow]
        if not begun:
            del self._begun[pair.source.number]
        self._flows -= 1


def _follow(pair: Pair, after: Fragment, now: float) -> None:
    """Let the later fragments of a packet pass, but over no first one of it."""
    _, least = pair.fragments.pop(after.packet, _NONE)
    if len(pair.fragments) >= MAX_FRAGMENTED:
        del pair.fragments[next(iter(pair.fragments))]
    pair.fragments[after.packet] = now, max(after.start, least)


def _is_group(packed: bytes) -> bool:
    """A multicast or broadcast address, from which nothing answers."""
    if len(packed) == 4:
        return packed[0] & 0xF0 in (0xE0, 0xF0)
    return packed[0] == 0xFF
