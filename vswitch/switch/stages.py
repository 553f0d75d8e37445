"""What the features of a managed switch have in common: steps that the frames of a port take.

 ingress stages   of the port where a batch came in, in order, before learning and look-up: guards,
                  rates, storm limits, VLAN tagging
 reach            which port hears of which, for a VLAN: membership, isolation, groups
 egress stages    of a port that a batch goes out on, in order, before its device: untagging, rates

A port without stages and a switch without a reach cost one comparison a batch. Stages are pure:
`now` in seconds; they work on whole batches of frame and superframe records, and return the same
list when they change nothing. They never see an empty batch. A list may be shared with other ports:
stages never change one.

Every frame that a stage drops is counted by it, in frames, in the port's counters. `explain` says
of one record what `take` would do, for `trace` and `capture`, and changes nothing.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from vswitch.switch.counters import PortCounters


@attrs.frozen
class Explained:
    """What a stage would make of one record."""

    record: bytes | None  # as it goes on; None if it is dropped
    why: str  # one line for people; "" if there is nothing to say
    reason: str = ""  # the name of the drop reason, if it is dropped


@attrs.frozen
class Decision:
    """What the switch would do with one record, and why."""

    egress: tuple[int, ...]  # port numbers, none if it is dropped
    reason: str  # the name of the drop reason; "" if it is forwarded
    steps: tuple[str, ...]  # one line for each step that had something to say


class Stage(Protocol):
    """One step."""

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """The records that go on, in order: the same list, unchanged, or another one. HOT PATH of a
        port that has the stage.
        """

    def explain(self, record: bytes, now: float) -> Explained:
        """What `take` would do with this one."""


def behind(stages: tuple[Stage, ...], stage: Stage) -> tuple[Stage, ...]:
    """Those that come after one of them; all, if it is not among them any more."""
    return stages[stages.index(stage) + 1 :] if stage in stages else stages


class Reach(Protocol):
    """Who hears whom."""

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Whether frames of that VLAN go from one port to the other. Asked once for each pair and
        VLAN until `Switch.rewire` is called.
        """

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """The ports that want a group address; None: all that `reaches` allows. HOT PATH of
        multicast; a port that is not attached, or not reached, is left out by the caller.
        """


class Observer(Protocol):
    """Sees what passes, and never slows or changes it. Raises nothing."""

    def saw_ingress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch came in on a port, as it came; called before it is handled. An empty one: what a
        stage has held goes on from there.
        """

    def saw_egress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch goes out on a port, as its device gets it."""
