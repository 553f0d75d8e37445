"""What a feature of a managed switch is: the hooks that `features/manager.py` calls.

Every hook is a plain call between two batches of frames, and none waits. A feature keeps its state
by port number, and forgets it in `port_down`. Its settings, the names of what it drops and the
stages that frames pass stand in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import attrs

from vswitch.features.trust import Served
from vswitch.switch.fdb import LearningPolicy, MoveListener
from vswitch.switch.port import Port
from vswitch.switch.shaper import Shaper
from vswitch.switch.stages import Stage

ANY_PORT = "*"  # the name under which settings hold for ports that say nothing else

_SwitchT = TypeVar("_SwitchT", contravariant=True)
_PortT = TypeVar("_PortT", contravariant=True)


@attrs.frozen
class Stages:
    """What one feature has the frames of one port pass."""

    ingress: Stage | None = None  # for frames that come in
    egress: Stage | None = None  # for frames that leave
    shaper: Shaper | None = None  # at what rate they leave


class Feature(Generic[_SwitchT, _PortT]):
    """The base of all: does nothing.

    Its type arguments are the settings that a feature reads: those of the switch, those of a port.
    """

    learning: LearningPolicy | None = None  # asked about addresses that are new on a port
    moved: MoveListener | None = None  # told of stations that are heard on another port
    keeps_apart = False  # whether `reaches` is asked; followed by `Switch.rewire` when it changes
    knows_groups = False  # whether `group_ports` is asked; the same
    # Whether it keeps something out. If so, one that has ended is still asked what, since no fault
    # opens anything; any other one is asked for nothing any more.
    guards = True

    # Settings.

    def validate(self, switch: _SwitchT, ports: Mapping[str, _PortT]) -> None:
        """`ConfigError` if settings of several ports do not fit together. Called before
        `settings_changed`; nothing has changed then.
        """

    def settings_changed(self, switch: _SwitchT, ports: Mapping[str, _PortT]) -> bool:
        """Called first of all, and when any setting has changed; `ports` are the settings by all
        names that have some, attached or not. True: the stages of all ports are made anew, as they
        are when settings of the switch have changed.
        """
        return False

    def reserved(self, macs: Mapping[bytes, str], addresses: Mapping[bytes, str]) -> None:
        """What is kept for whom from now on, by the name of the port, attached or not: the MACs
        that derive from the keys of members, and the packed IP addresses that they were given.
        """

    def renamed(self, former: Mapping[str, str]) -> None:
        """What members were called before, and nobody is now, with their names."""

    def served(self, served: Served) -> None:
        """What the switch itself does on its LAN, from now on; the stages of all ports are made
        anew.
        """

    # Ports.

    def port_up(self, port: Port) -> None:
        """A port is attached; nothing has come in on it yet."""

    def port_stages(self, port: Port, settings: _PortT) -> Stages:
        """What the frames of an attached port pass; asked behind `port_up` and whenever settings of
        the port have changed.
        """
        return Stages()

    def port_down(self, number: int) -> None:
        """The port is down; another one may get its number."""

    # Which port hears which.

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Whether frames of that VLAN go from one port to the other, as far as it is concerned."""
        return True

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """The ports that want a group address; None: this feature does not know."""
        return None

    # Time.

    def tick(self, now: float) -> None:
        """A second has passed."""

    async def run(self) -> None:
        """A task of its own, for as long as the switch is managed; one that ends is no harm."""
