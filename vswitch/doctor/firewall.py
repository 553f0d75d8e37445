"""What a host's firewall says of a packet, as far as its lists of rules tell for certain.

`nft -j list ruleset` has the rules of nftables, those of the newer iptables among them;
`iptables-legacy-save` has those of the older one, which the kernel goes through besides. Both are
read into chains. Where a rule may let a packet pass, by a condition that is not understood, a jump
or a map, nobody knows what becomes of it: `drops` tells only what is sure. A packet is one that
begins something, and comes from or goes to another host.

Pure. Error contract: `*_untrusted` raise `BadRecord` for what is no such list.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import frozen

from vswitch.errors import BadRecord

# Statements of nftables that let a packet go on to the next one, or end its way.
_VERDICTS: Final = ("accept", "drop", "reject")
_PASSES: Final = ("match", "counter", "log")
_FAMILIES: Final = ("ip", "ip6", "inet")
# Options of iptables that are understood, or change nothing in which packets are meant.
_MATCHES: Final = ("-p", "-i", "--dport", "--dports", "--ctstate", "--state")
_VALUED: Final = (*_MATCHES, "-m", "--comment", "-j", "-g", "--reject-with")


@frozen
class Rule:
    """What a rule says of the packet that was asked about."""

    verdict: str | None = None  # for certain
    may_accept: bool = False  # it, or what it leads to


@frozen
class Chain:
    """The rules at one hook of the kernel, in order, and what becomes of all other packets."""

    family: str  # ip, ip6, or inet for both
    place: str  # for people
    rules: Sequence[Rule]
    drops_others: bool


def drops(chains: Sequence[Chain], what: str) -> list[str]:
    """Where these chains drop `what` for certain, for people."""
    found = []
    for chain in chains:
        deciding = next((each for each in chain.rules if each.verdict or each.may_accept), None)
        if deciding is not None and deciding.verdict in ("drop", "reject"):
            found.append(f"a rule in {chain.place} says {deciding.verdict} for {what}")
        elif deciding is None and chain.drops_others:
            found.append(f"{chain.place} has the policy drop, and no rule accepts {what}")
    return found


def may_drop(chains: Sequence[Chain], family: str) -> list[str]:
    """Where these chains drop packets of an IP family, all but what a rule may accept."""
    found = []
    for chain in (each for each in chains if each.family in (family, "inet")):
        certain = next((each.verdict for each in chain.rules if each.verdict), None)
        if certain in ("drop", "reject") or (certain is None and chain.drops_others):
            found.append(f"{chain.place} drops")
    return found


def nft_chains_untrusted(text: str, hook: str, port: int | None) -> list[Chain]:
    """The chains at a hook in what `nft -j list ruleset` says, about UDP to `port`, or about any
    packet.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(text)["nftables"]
        chains = [each["chain"] for each in entries if "chain" in each]
        rules = [each["rule"] for each in entries if "rule" in each]
        return [
            Chain(
                chain["family"],
                f"{chain['family']} {chain['table']} {chain['name']} ({hook})",
                [_nft_rule(each["expr"], port) for each in rules if _is_of(each, chain)],
                chain.get("policy") == "drop",
            )
            for chain in chains
            if chain.get("hook") == hook and chain["family"] in _FAMILIES
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError):
        raise BadRecord("no list of rules as nft writes it") from None


def _is_of(rule: dict[str, Any], chain: dict[str, Any]) -> bool:
    same = all(rule[key] == chain[key] for key in ("family", "table"))
    return bool(same and rule["chain"] == chain["name"])


def _nft_rule(expressions: Sequence[dict[str, Any]], port: int | None) -> Rule:
    verdict, may_accept = None, False
    holds: list[bool | None] = []
    for each in expressions:
        for key, value in each.items():
            if key in _VERDICTS:
                verdict = key
            if key == "match":
                holds.append(_holds(value, port))
            elif key not in (*_VERDICTS, *_PASSES):
                holds.append(None)
            may_accept = may_accept or key not in (*_PASSES, "drop", "reject")
    return _rule(holds, verdict, may_accept)


def _rule(holds: Sequence[bool | None], verdict: str | None, may_accept: bool) -> Rule:
    """One whose conditions hold, do not, or nobody knows."""
    if False in holds:
        return Rule()
    return Rule(None if None in holds else verdict, may_accept)


def _holds(match: dict[str, Any], port: int | None) -> bool | None:
    """Whether a packet of those that are asked about matches; None: nobody knows."""
    left, right = match["left"], match["right"]
    if match["op"] not in ("==", "in"):
        return None
    values = right["set"] if isinstance(right, dict) and "set" in right else [right]
    values = values if isinstance(values, list) else [values]
    if left == {"ct": {"key": "state"}}:
        states = [
            each for value in values for each in (value if isinstance(value, list) else [value])
        ]
        return None if "new" in states else False
    if left in ({"meta": {"key": "iifname"}}, {"meta": {"key": "iif"}}) and values == ["lo"]:
        return False
    if port is None:
        return None
    payload = left.get("payload", {})
    if payload.get("field") in ("dport", "sport") and payload["protocol"] not in ("udp", "th"):
        return False
    if payload == {"protocol": "udp", "field": "dport"}:
        return any(_has_port(value, port) for value in values)
    if left == {"meta": {"key": "l4proto"}} or payload == {"protocol": "ip", "field": "protocol"}:
        return any(value in ("udp", 17) for value in values)
    return None


def _has_port(value: Any, port: int) -> bool:
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return bool(first <= port <= last)
    return bool(value == port)


def legacy_chains_untrusted(text: str, family: str, hook: str, port: int | None) -> list[Chain]:
    """The same, in what `iptables-legacy-save` (`ip`) or `ip6tables-legacy-save` (`ip6`) says."""
    try:
        return list(_legacy_chains(text, family, hook.upper(), port))
    except (ValueError, IndexError):
        raise BadRecord("no list of rules as iptables-save writes it") from None


def _legacy_chains(text: str, family: str, name: str, port: int | None) -> Iterator[Chain]:
    table, policy, rules = "", None, list[Rule]()
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0].startswith("*"):
            table, policy, rules = words[0][1:], None, []
        elif words[0] == f":{name}":
            policy = words[1]
        elif words[:2] == ["-A", name]:
            rules.append(_legacy_rule(words[2:], port))
        elif words == ["COMMIT"]:
            if policy is not None:
                place = f"{family} {table} {name} (iptables-legacy)"
                yield Chain(family, place, rules, policy == "DROP")
        elif not words[0].startswith((":", "-A")):
            raise ValueError(words[0])


def _legacy_rule(words: Sequence[str], port: int | None) -> Rule:
    target = ""
    holds: list[bool | None] = []
    rest = iter(words)
    for word in rest:
        if word not in _VALUED:  # a condition that is not understood, or its value
            holds.append(None)
            if word == "!":  # so is what follows
                next(rest, "")
            continue
        value = next(rest, "")
        if word in ("-j", "-g"):
            target = value
        elif word in ("--ctstate", "--state"):
            holds.append(None if "NEW" in value.split(",") else False)
        elif word == "-i":
            holds.append(False if value == "lo" else None)
        elif word == "-p":
            holds.append(None if port is None else value in ("udp", "17"))
        elif word in ("--dport", "--dports"):
            holds.append(None if port is None else _has_legacy_port(value, port))
    verdict = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject"}.get(target)
    return _rule(holds, verdict, target not in ("", "DROP", "REJECT", "LOG", "NFLOG"))


def _has_legacy_port(text: str, port: int) -> bool:
    for part in text.split(","):
        first, _, last = part.partition(":")
        if int(first or 0) <= port <= int(last or (65535 if ":" in part else first)):
            return True
    return False
