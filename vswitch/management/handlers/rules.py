"""Handlers of `vswitch rules`: the rules in force, others in their place, and those not yet."""

from __future__ import annotations

import trio

from vswitch.errors import ConfigError
from vswitch.features.rule_set import ask, read_rules
from vswitch.features.rules import PortRules
from vswitch.management.handlers.common import Args, Controlled, Result, note, texts_of
from vswitch.management.workers import run_sync

_MOST_ASKED = 16  # questions at once: a person has one
# Many rules with many tests take a while, in which frames go on: besides one such look, not many.
_one = trio.CapacityLimiter(1)


async def rules_list(controlled: Controlled, args: Args) -> Result:
    """`vswitch rules`: each rule, and how often it has decided since it is in force."""
    feature = controlled.managed.feature(PortRules)
    rules, configuration = feature.rules, controlled.configuration
    said = "" if configuration is None else configuration.source(controlled.network, ("rules",))
    return {
        "default": "allow" if rules.allow else "deny",
        "rules": [
            {"rule": rule.text, "allowed": rule.allowed, "denied": rule.denied}
            for rule in rules.rules
        ],
        "tests": [test.text for test in rules.tests],
        "groups": {name: list(names) for name, names in rules.table.get("groups", {}).items()},
        "said": said,
        "flows": feature.count_flows(),
        "unknown": feature.unknown_names(),
    }


async def rules_load(controlled: Controlled, args: Args) -> Result:
    """`vswitch rules load`: go by those of a table, if all of it is right and its tests hold."""
    table, place = args.get("table"), str(args.get("place", "rules"))
    rules = await run_sync(read_rules, table, place, limiter=_one)
    controlled.managed.change_rules(rules)
    await note(controlled, args, {("rules",): table})
    return await rules_list(controlled, args)


async def rules_check(controlled: Controlled, args: Args) -> Result:
    """Whether a table is right and its tests hold, and what its rules say. Nothing changes."""
    asked = texts_of(args, "ask")
    if len(asked) > _MOST_ASKED:
        raise ConfigError(f"ask: {len(asked)} questions are too many: at most {_MOST_ASKED}")

    def check() -> Result:
        rules = read_rules(args.get("table"), str(args.get("place", "rules")))
        said = [(text, *ask(rules, text, of=len(asked))) for text in asked]
        return {
            "rules": len(rules.rules),
            "tests": len(rules.tests),
            "verdicts": [
                {"asked": text, "allowed": allowed, "by": by} for text, allowed, by in said
            ],
        }

    return await run_sync(check, limiter=_one)
