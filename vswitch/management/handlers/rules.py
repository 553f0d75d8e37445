"""Handlers of `vswitch rules`: the rules in force, and others in their place."""

from __future__ import annotations

import trio

from vswitch.features.rule_set import read_rules
from vswitch.features.rules import PortRules
from vswitch.management.handlers.common import Args, Controlled, Result, note


async def rules_list(controlled: Controlled, args: Args) -> Result:
    """`vswitch rules`: each rule, and how often it has decided since it is in force."""
    feature = controlled.managed.feature(PortRules)
    rules = feature.rules
    return {
        "default": "allow" if rules.allow else "deny",
        "rules": [
            {"rule": rule.text, "allowed": rule.allowed, "denied": rule.denied}
            for rule in rules.rules
        ],
        "tests": [test.text for test in rules.tests],
        "flows": feature.count_flows(),
        "unknown": feature.unknown_names(),
    }


async def rules_load(controlled: Controlled, args: Args) -> Result:
    """`vswitch rules load`: go by those of a table, if all of it is right and its tests hold."""
    # Many rules with many tests take a while, in which frames go on.
    table, place = args.get("table"), str(args.get("place", "rules"))
    rules = await trio.to_thread.run_sync(read_rules, table, place)
    controlled.managed.change_rules(rules)
    await note(controlled, args, {("rules",): table})
    return await rules_list(controlled, args)
