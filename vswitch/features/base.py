"""What a feature is, for `vswitch.managed`.

Everything is a plain call between two batches of frames; nothing here waits. A feature keeps its
state by port number, and forgets it with `gone`.
"""

from __future__ import annotations

from vswitch.features.settings import PortSettings, Settings, SwitchSettings
from vswitch.switch.port import Port
from vswitch.switch.stages import Stage


class Feature:
    """The base of all: does nothing."""

    @property
    def keeps_apart(self) -> bool:
        """Whether `reaches` is to be asked, as things stand."""
        return type(self).reaches is not Feature.reaches

    @property
    def knows_groups(self) -> bool:
        """Whether `group_ports` is to be asked, as things stand."""
        return type(self).group_ports is not Feature.group_ports

    def changed(self, switch: SwitchSettings) -> None:
        """The settings of the whole switch, first of all and whenever they change."""

    def heard(self, settings: Settings) -> bool:
        """Everything that has been said, about all ports, attached or not, before any is asked; and
        whenever that has changed. True: all ports are asked anew.
        """
        return False

    def check(self, settings: Settings) -> None:
        """`ConfigError` if things that were said of several ports do not fit together; nothing has
        changed then. Called before all others.
        """

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The step that frames take which come in on that port; None for none. Called when the port
        is attached and whenever its settings have changed.
        """
        return None

    def egress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The same for frames that leave."""
        return None

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Whether frames of that VLAN go from one port to the other, as far as it is concerned."""
        return True

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """The ports that want a group address; None: this feature does not know."""
        return None

    def tick(self, now: float) -> None:
        """A second has passed."""

    async def run(self) -> None:
        """A task of its own, for as long as the switch is managed; one that ends is no harm."""

    def gone(self, number: int) -> None:
        """The port is down; another one may get its number."""
