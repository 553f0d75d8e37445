"""Handler of `vswitch trace`: what would happen to a frame, and why."""

from __future__ import annotations

from vswitch.errors import ConfigError, Problem
from vswitch.frames.ethernet import parse_mac
from vswitch.frames.headers import summary
from vswitch.frames.records import frame_record
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    port_of,
)
from vswitch.management.trace import Host, parse_trace_untrusted
from vswitch.switch.switch import Switch


def _hosts(switch: Switch) -> list[Host]:
    """Who is behind each port: what guards know of it, else the first station that was heard."""
    heard: dict[int, bytes] = {}
    for entry in switch.fdb_entries():
        heard.setdefault(entry.port, parse_mac(entry.mac))
    return [
        Host(
            port.name,
            port.number,
            heard.get(port.number) if (bound := port.bound) is None else bound.mac,
            None if bound is None else bound.address,
        )
        for port in switch.ports
    ]


async def trace(controlled: Controlled, args: Args) -> Result:
    """`vswitch trace`: what would happen to a frame, and why."""
    managed = controlled.managed
    try:
        question = parse_trace_untrusted(str(args.get("frame", "")), _hosts(managed.switch))
    except ValueError as error:
        raise ConfigError(str(error)).of(Problem.QUESTION, reason=error) from None
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
