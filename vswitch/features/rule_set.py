"""The rules of a LAN as people write them: who may open what to whom.

    [rules]
    default = "allow"                       # what no rule says; or "deny"
    list = [
      "allow office -> nas tcp 445",
      "deny any -> nas",
      "deny lab -> internet",
    ]
    tests = ["pc1 -> nas tcp 445 allowed", "pc9 -> nas tcp 22 denied"]
    [rules.groups]
    office = ["pc1", "pc2"]

A rule is `allow|deny WHO -> WHO [PROTOCOL [PORTS or TYPES]]`; the first that fits decides. WHO is
the name of a port, so of a member; a group; `switch`, the switch's own host; `any`; a network such
as 192.168.1.0/24, by the IP address; or `internet`, every address of one host that is reachable
worldwide (RFC 6890). A protocol is tcp, udp, icmp (of either IP), sctp or a number; ports are `22`
or `80,443,8000-8010`; types of ICMP are `echo-request` and its like, or numbers, of `icmp` those of
IPv4, which stand for their like of IPv6.

A test is `WHO -> WHO [PROTOCOL [PORT or TYPE]] allowed|denied`; without a protocol it asks for one
that no rule names. Rules of which a test fails are refused. Here it is decided alone who may begin;
that answers pass is the business of `rules.py`.

Pure. Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from vswitch.config.sources import shortened
from vswitch.errors import ConfigError
from vswitch.frames.headers import ICMPV6
from vswitch.frames.virtio import TCP, UDP
from vswitch.registry.rules import ANY, INTERNET, LOCAL_PORT, RULE_WORDS, SWITCH

MAX_RULES: Final = 1024  # more than people read
MAX_TESTS: Final = 1024
MAX_PORTS: Final = (
    64  # or types, of a rule: each is compared with the first packet of a conversation
)
MAX_QUESTIONS: Final = 10_000  # of all tests together
MAX_COMPARED: Final = 2_000_000  # questions times rules: a few seconds of a thread, at most
ICMP: Final = 1
KEYS: Final = {  # of the table, and what each says
    "default": "what no line says: allow or deny (allow)",
    "groups": "names for several ports: NAME = [PORT, ...]",
    "list": "the rules in their order, of which the first that fits decides",
    "tests": "what must follow from them, or they are refused",
}

_BOTH: Final = frozenset({ICMP, ICMPV6})
_PROTOCOLS: Final = {
    "icmp": _BOTH,
    "tcp": frozenset({TCP}),
    "udp": frozenset({UDP}),
    "sctp": frozenset({132}),
}
_UNNAMED: Final = 253  # for experiments (RFC 3692)
_WITH_PORTS: Final = frozenset({TCP, UDP, 132})
# Of ICMP and of ICMPv6 (RFC 792, 4443): what people filter.
_TYPES: Final = {
    "echo-reply": (0, 129),
    "unreachable": (3, 1),
    "echo-request": (8, 128),
    "time-exceeded": (11, 3),
    "parameter-problem": (12, 4),
}
_Groups: TypeAlias = "Mapping[str, frozenset[str]]"  # the names in each
T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@attrs.frozen
class Question:
    """A first packet: may it pass? `target` is a port, or the type of ICMP; -1 where there is
    neither. `names` are those of the port that it comes from, and leaves by.
    """

    source: Collection[str]
    to: Collection[str]
    source_ip: bytes  # packed
    to_ip: bytes
    protocol: int
    target: int = -1


@attrs.frozen
class Who:
    """One side of a rule."""

    text: str
    names: frozenset[str] = frozenset()
    networks: tuple[tuple[int, int, int], ...] = ()  # bytes of an address, bits to drop, the rest

    def has_name(self, names: Collection[str]) -> bool:
        """Whether a port of these names is, or may be, on this side."""
        return not self.names or not self.names.isdisjoint(names)

    def has_address(self, packed: bytes) -> bool:
        """Whether that address is; the name of its port is not looked at."""
        if self.networks:
            value = int.from_bytes(packed, "big")
            return any(
                len(packed) == size and value >> drop == rest for size, drop, rest in self.networks
            )
        if self.text != INTERNET:
            return True
        return _is_worldwide(packed)


@lru_cache(1024)
def _is_worldwide(packed: bytes) -> bool:
    """Whether it is one of `internet`. Many rules ask that of the same address."""
    address = ip_address(packed)
    return address.is_global and not address.is_multicast


@attrs.define(eq=False)
class Rule:
    """One line. Counts how often it has decided."""

    text: str
    allow: bool
    source: Who
    to: Who
    protocols: frozenset[int] = frozenset()  # none: any
    targets: tuple[tuple[int, int], ...] = ()  # first and last; none: any
    allowed: int = attrs.field(init=False, default=0)  # conversations
    denied: int = attrs.field(init=False, default=0)  # frames

    def fits(self, question: Question) -> bool:
        """Whether it is this rule that decides, if none before it does. Names are known to fit."""
        if self.protocols:
            if question.protocol not in self.protocols:
                return False
            if self.targets and not any(a <= question.target <= b for a, b in self.of(question)):
                return False
        return self.source.has_address(question.source_ip) and self.to.has_address(question.to_ip)

    def of(self, question: Question) -> tuple[tuple[int, int], ...]:
        """The ports, or the types in the numbers of that version of IP."""
        if self.protocols != _BOTH or question.protocol != ICMPV6:
            return self.targets
        of_version = dict(_TYPES.values())
        return tuple((of_version.get(a, a), of_version.get(b, b)) for a, b in self.targets)


@attrs.frozen(eq=False)
class RuleTest:
    """What the operator holds the rules to. A group stands for each of its members."""

    text: str
    source: Who
    to: Who
    protocol: int
    target: int
    allowed: bool

    def count(self) -> int:
        """How many questions it asks."""
        return max(1, len(self.source.names)) * max(1, len(self.to.names))

    def questions(self) -> Iterator[Question]:
        """One for each pair of names."""
        for a in sorted(self.source.names) or [""]:
            for b in sorted(self.to.names) or [""]:
                ends = _example(self.source), _example(self.to)
                yield Question((a,), (b,), *ends, self.protocol, self.target)


@attrs.frozen(eq=False)
class RuleSet:
    """All of them, in their order."""

    rules: tuple[Rule, ...] = ()
    allow: bool = True  # what no rule says
    tests: tuple[RuleTest, ...] = ()
    table: Mapping[str, Any] = attrs.field(factory=dict)  # as it was written

    @cached_property
    def forbids(self) -> bool:
        """Whether anything at all may be denied."""
        return not self.allow or any(not rule.allow for rule in self.rules)

    @cached_property
    def named(self) -> frozenset[str]:
        """Every port that is named, also by a group."""
        return frozenset().union(*(rule.source.names | rule.to.names for rule in self.rules))

    def between(self, source: Collection[str], to: Collection[str]) -> tuple[Rule, ...]:
        """Those that concern frames from a port of these names to one of those."""
        return tuple(
            rule for rule in self.rules if rule.source.has_name(source) and rule.to.has_name(to)
        )

    def judge(self, question: Question) -> tuple[bool, Rule | None]:
        """Whether it may pass, and the rule that says so; None: `default` does."""
        return decide(self.between(question.source, question.to), question, self.allow)

    def number(self, rule: Rule | None) -> str:
        """A rule, for people."""
        if rule is None:
            return f"the default of [rules]: {'allow' if self.allow else 'deny'}"
        return f"rule {self.rules.index(rule) + 1}: {rule.text}"


def decide(rules: Iterable[Rule], question: Question, default: bool) -> tuple[bool, Rule | None]:
    """What the first of `rules` says that fits; they are known to concern the ports."""
    for rule in rules:
        if rule.fits(question):
            return rule.allow, rule
    return default, None


# --- Text ------------------------------------------------------------------------------------


def read_rules(table: object, place: str) -> RuleSet:
    """The rules that a table of a file, or of a request, makes. All tests have held."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place}: must be a table: write [rules]")
    problems = [
        f"{place}: {shortened(key)} is not known: there are default, groups, list and tests"
        for key in table
        if key not in KEYS
    ]
    default = table.get("default", "allow")
    if default not in ("allow", "deny"):
        problems.append(f"{place}.default = {default!r:.80}: write allow or deny")
    groups = _groups(table.get("groups", {}), f"{place}.groups", problems)
    rules = tuple(
        rule
        for at, text in _lines(table, "list", MAX_RULES, place, problems)
        if (rule := _try(_rule, text, groups, at, problems)) is not None
    )
    made = RuleSet(rules, default == "allow", table=dict(table))
    tests = tuple(
        test
        for at, text in _lines(table, "tests", MAX_TESTS, place, problems)
        if (test := _try(_test, text, groups, at, problems)) is not None
    )
    if problems:
        raise ConfigError("\n".join(problems))
    left = most = _most_questions(made)
    for number, test in enumerate(tests, 1):
        left -= test.count()
        if left < 0:
            problems.append(
                f"{place}.tests {number}, {test.text!r}: the questions of the tests up to here, "
                f"one for each pair of names, are too many: at most {most} for so many rules"
            )
            break
        for question in test.questions():
            allowed, rule = made.judge(question)
            if allowed != test.allowed:
                said = "allowed" if allowed else "denied"
                problems.append(
                    f"{place}.tests {number}, {test.text!r}: it is {said}, by {made.number(rule)}"
                )
                break
    if problems:
        raise ConfigError("\n".join(problems))
    return attrs.evolve(made, tests=tests)


def _most_questions(rules: RuleSet) -> int:
    return min(MAX_QUESTIONS, MAX_COMPARED // max(1, len(rules.rules)))


def ask(rules: RuleSet, text: str, *, of: int = 1) -> tuple[bool, str]:
    """What rules say of `WHO -> WHO [PROTOCOL [PORT or TYPE]]`, and by which line; it is one `of`
    so many that are asked. With a group: of all pairs of names, so the first that is denied.
    `ConfigError` for what is no such question.
    """
    groups = _groups(rules.table.get("groups", {}), "groups", [])
    problems: list[str] = []
    asked = _try(_test, f"{text} allowed", groups, "ask", problems)
    if asked is not None and asked.count() > _most_questions(rules) // of:
        problems.append(f"ask, {text[:80]!r}: these are too many pairs of names: {asked.count()}")
    if problems or asked is None:
        raise ConfigError("\n".join(problems))
    first = None
    for question in asked.questions():
        allowed, rule = rules.judge(question)
        if not allowed:
            return False, rules.number(rule)
        first = first or rules.number(rule)
    return True, first or ""


def _lines(
    table: Mapping[str, Any], key: str, limit: int, place: str, problems: list[str]
) -> list[tuple[str, str]]:
    said = table.get(key, [])
    if not isinstance(said, list | tuple) or not all(isinstance(each, str) for each in said):
        problems.append(f"{place}.{key}: must be a list of texts")
        return []
    if len(said) > limit:
        problems.append(f"{place}.{key}: {len(said)} are too many: at most {limit}")
        return []
    return [(f"{place}.{key} {number}", text) for number, text in enumerate(said, 1)]


def _groups(said: object, place: str, problems: list[str]) -> dict[str, frozenset[str]]:
    groups: dict[str, frozenset[str]] = {}
    if not isinstance(said, Mapping):
        problems.append(f"{place}: must be a table: write [{place.rpartition(' ')[2]}]")
        return groups
    for name, members in said.items():
        if not _NAME.fullmatch(name) or name in RULE_WORDS:
            problems.append(f"{place}: {name[:80]!r} cannot be the name of a group")
        elif not (isinstance(members, list | tuple) and members and all(map(_is_name, members))):
            problems.append(f'{place}.{name}: must be a list of names, such as ["pc1", "pc2"]')
        else:
            groups[name] = frozenset(members)
    return groups


def _is_name(said: object) -> bool:
    return isinstance(said, str) and _NAME.fullmatch(said) is not None


def _try(
    read: Callable[[str, _Groups], T], text: str, groups: _Groups, at: str, problems: list[str]
) -> T | None:
    try:
        return read(text, groups)
    except ValueError as error:
        problems.append(f"{at}, {text[:80]!r}: {error}")
        return None


def _rule(text: str, groups: _Groups) -> Rule:
    words = text.split()
    if len(words) < 4 or words[0] not in ("allow", "deny") or words[2] != "->":
        raise ValueError("write allow or deny WHO -> WHO, and perhaps a protocol and its ports")
    protocols, targets = _service(words[4:])
    return Rule(
        " ".join(words),
        words[0] == "allow",
        _who(words[1], groups),
        _who(words[3], groups),
        protocols,
        targets,
    )


def _test(text: str, groups: _Groups) -> RuleTest:
    words = text.split()
    if len(words) < 4 or words[1] != "->" or words[-1] not in ("allowed", "denied"):
        raise ValueError("write WHO -> WHO, perhaps a protocol and a port, then allowed or denied")
    source, to = _who(words[0], groups), _who(words[2], groups)
    protocols, targets = _service(words[3:-1])
    if any(first != last for first, last in targets) or len(targets) > 1:
        raise ValueError("a test is of one port")
    protocol = min(protocols, default=_UNNAMED)
    target = targets[0][0] if targets else -1
    return RuleTest(" ".join(words), source, to, protocol, target, words[-1] == "allowed")


def _example(who: Who) -> bytes:
    """An address of that side: of a network its first, else of anybody in the LAN or outside."""
    if who.networks:
        size, drop, rest = who.networks[0]
        return (rest << drop).to_bytes(size, "big")
    return bytes((1, 1, 1, 1)) if who.text == INTERNET else bytes((169, 254, 1, 1))


def _who(text: str, groups: _Groups) -> Who:
    if text in (ANY, INTERNET):
        return Who(text)
    if text == SWITCH:
        return Who(text, frozenset({LOCAL_PORT}))
    if text in groups:
        return Who(text, groups[text])
    if "/" in text or ":" in text or re.fullmatch(r"[0-9.]+", text):
        try:
            network = ip_network(text)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
        drop = network.max_prefixlen - network.prefixlen
        rest = int(network.network_address) >> drop
        return Who(text, networks=((network.max_prefixlen // 8, drop, rest),))
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name, group or network")
    return Who(text, frozenset({text}))


def _service(words: list[str]) -> tuple[frozenset[int], tuple[tuple[int, int], ...]]:
    if not words:
        return frozenset(), ()
    if len(words) > 2:
        raise ValueError(f"{' '.join(words[2:])!r} is too much: ports are joined by commas")
    name = words[0].lower()
    if name not in _PROTOCOLS and not (name.isascii() and name.isdigit() and int(name) <= 255):
        raise ValueError(f"{words[0]!r} is no protocol: write {', '.join(_PROTOCOLS)} or a number")
    protocols = _PROTOCOLS[name] if name in _PROTOCOLS else frozenset({int(name)})
    if len(words) == 1:
        return protocols, ()
    parts = words[1].split(",", MAX_PORTS)
    if len(parts) > MAX_PORTS:
        raise ValueError(f"more than {MAX_PORTS} ports or types: write ranges, or several lines")
    if protocols <= _BOTH:
        return protocols, tuple(_type(each, protocols) for each in parts)
    if not protocols <= _WITH_PORTS:
        raise ValueError(f"{words[0]} has no ports")
    return protocols, tuple(map(_ports, parts))


def _type(text: str, protocols: frozenset[int]) -> tuple[int, int]:
    if text in _TYPES:
        number = _TYPES[text][ICMP not in protocols]
    else:
        reason = f"{text!r} is no type of ICMP: write {', '.join(_TYPES)} or 0-255"
        number = _number(text, 255, reason)
    return number, number


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    reason = f"{text!r} is no port: write 22, 80,443 or 8000-8010"
    low = _number(first, 0xFFFF, reason)
    high = _number(last, 0xFFFF, reason) if dash else low
    if high < low:
        raise ValueError(f"{text}: the first port is above the last")
    return low, high


def _number(text: str, most: int, reason: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or int(text) > most:
        raise ValueError(reason)
    return int(text)
