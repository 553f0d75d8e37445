"""What would happen to one frame at one port, step by step: for `trace` and for captures.

Asks the stages and the forwarder the way that frames take, and changes nothing. Raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from vswitch.core.forwarding import Forwarder
from vswitch.core.stages import Decision
from vswitch.ports.port import Port

__all__ = ["explain"]


def explain(
    port: Port, record: bytes, forwarder: Forwarder, ports: Mapping[int, Port], now: float
) -> Decision:
    """The decision on a record that comes in on `port` now, of a switch with these ports."""
    steps: list[str] = []
    for stage in port.ingress_stages:
        explained = stage.explain(record, now)
        steps += [explained.why] if explained.why else []
        if explained.record is None:
            return Decision((), explained.reason, tuple(steps))
        record = explained.record
    decision = forwarder.explain(port.number, record, now)
    steps += decision.steps
    egress = []
    for number in decision.egress:
        sent: bytes | None = record
        for stage in ports[number].egress_stages:
            if sent is not None:
                explained = stage.explain(sent, now)
                steps += [f"port {number}: {explained.why}"] if explained.why else []
                sent = explained.record
        if sent is not None:
            egress.append(number)
    return Decision(tuple(egress), decision.reason, tuple(steps))
