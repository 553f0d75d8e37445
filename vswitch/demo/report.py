"""What the demo found out: for people as text, for programs as JSON."""

from __future__ import annotations

from typing import Any

import attrs

from vswitch.demo.echo import Echoes
from vswitch.demo.transfer import Transfer
from vswitch.demo.watch import Sight


@attrs.frozen
class Member:
    """A member as the switch and its own host show it."""

    name: str
    address: str  # IPv4, without prefix
    link_local: str  # IPv6, without prefix
    via: str | None  # where its datagrams come from


@attrs.frozen
class Pings:
    """Echo requests from one member to another."""

    source: str
    target: str
    version: int
    echoes: Echoes

    def line(self) -> str:
        times = sorted(1000 * each for each in self.echoes.times)
        if times:
            middle = sum(times) / len(times)
            spread = f"{times[0]:6.2f} /{middle:6.2f} /{times[-1]:6.2f}"
        else:
            spread = "no answer"
        return (
            f"{self.source} → {self.target}  IPv{self.version}  {spread}"
            f"   {len(times)} of {self.echoes.sent} answered"
        )


@attrs.frozen
class Flow:
    """One TCP stream, as its sender and its receiver saw it."""

    source: str
    target: str
    sent: Transfer
    received: Transfer

    @property
    def right(self) -> bool:
        """Whether what arrived is what was sent."""
        same = (self.sent.size, self.sent.digest) == (self.received.size, self.received.digest)
        return same and self.sent.size > 0

    @property
    def megabits(self) -> float:
        """Mbit/s of payload."""
        return 8e-6 * self.received.size / max(self.received.seconds, 1e-6)

    def line(self) -> str:
        return (
            f"{self.source} → {self.target}  {self.megabits:7.0f} Mbit/s"
            f"   {self.received.size / 1e6:.1f} MB in {self.received.seconds:.1f} s,"
            f" checksum {'right' if self.right else 'WRONG'}"
        )


@attrs.define
class Report:
    """All of it. `problems` says what did not hold; empty is success."""

    members: list[Member] = attrs.field(factory=list)
    pings: list[Pings] = attrs.field(factory=list)
    flows: list[Flow] = attrs.field(factory=list)
    underlay: Sight | None = None  # the eavesdropper between members and switch
    inside: Sight | None = None  # the same watch on the LAN, where it has to see the pattern

    @property
    def problems(self) -> list[str]:
        """What did not hold, one sentence each."""
        found = [
            f"{pings.source} → {pings.target}: {missing} echo requests without an answer"
            for pings in self.pings
            if (missing := pings.echoes.sent - len(pings.echoes.times))
        ]
        found += [
            f"{flow.source} → {flow.target}: what arrived is not what was sent"
            for flow in self.flows
            if not flow.right
        ]
        if self.underlay is None or self.inside is None:
            return [*found, "the underlay was not watched"]
        if self.underlay.clear:
            found.append(f"{self.underlay.clear} frames on the underlay show the payload in clear")
        if not self.underlay.datagrams:
            found.append("no datagram was seen on the underlay")
        if not self.inside.clear:
            found.append("the watch did not see the pattern on the LAN either: it proves nothing")
        return found

    def text(self) -> str:
        """The report for people."""
        lines = ["", "members"]
        lines += [
            f"  {member.name}  {member.address}  {member.link_local}  via {member.via}"
            for member in self.members
        ]
        lines += ["", "round trip between members, min / mean / max ms"]
        lines += [f"  {pings.line()}" for pings in self.pings]
        lines += ["", "TCP between members"]
        lines += [f"  {flow.line()}" for flow in self.flows]
        if self.underlay is not None and self.inside is not None:
            lines += [
                "",
                "encryption",
                f"  suite {' and '.join(self.underlay.suites) or 'not seen'}",
                f"  {self.underlay.datagrams} datagrams watched between members and switch:"
                f" {self.underlay.clear} with the test pattern in clear",
                f"  (on the LAN itself the same watch saw it in {self.inside.clear} frames)",
            ]
        lines += ["", *(f"FAILED: {problem}" for problem in self.problems)]
        if not self.problems:
            lines.append("all of it held")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """The report for programs; keys are only ever added."""
        flows = [
            {**attrs.asdict(flow), "mbit_per_s": round(flow.megabits, 1), "right": flow.right}
            for flow in self.flows
        ]
        return {"schema": 1, **attrs.asdict(self), "flows": flows, "problems": self.problems}
