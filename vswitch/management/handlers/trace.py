"""Handler of `vswitch trace`: what would happen to a frame, and why."""

from __future__ import annotations

from vswitch.errors import ConfigError
from vswitch.frames.headers import summary
from vswitch.frames.records import frame_record
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    port_of,
)
from vswitch.management.trace import parse_trace_untrusted


async def trace(controlled: Controlled, args: Args) -> Result:
    """`vswitch trace`: what would happen to a frame, and why."""
    managed = controlled.managed
    try:
        question = parse_trace_untrusted(str(args.get("frame", "")))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    port = port_of(managed, question.port)
    decision = managed.switch.explain(port, frame_record(question.frame))
    names = {each.number: each.name for each in managed.switch.ports}
    return {
        "port": port.number,
        "name": port.name,
        "frame": summary(question.frame),
        "steps": list(decision.steps),
        "egress": [{"port": number, "name": names[number]} for number in decision.egress],
        "reason": decision.reason,
    }
