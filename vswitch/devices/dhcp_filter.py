"""A host's interface through which no DHCP passes: two LANs that are bridged keep their own.

Both directions; everything else is the interface's own doing, errors too. What is dropped is
counted in its `dropped["dhcp"]`.
"""

from __future__ import annotations

from collections import Counter

import trio

from vswitch.devices.host_interface import HostFacts, HostInterface
from vswitch.frames.headers import is_dhcp_untrusted
from vswitch.switch.device import Description


class DhcpFilter:
    """Around an interface. Implements `vswitch.devices.host_interface.HostInterface`."""

    def __init__(self, interface: HostInterface) -> None:
        self._interface = interface
        self.dropped: Counter[str] = interface.dropped

    @property
    def name(self) -> str:
        return self._interface.name

    @property
    def mac(self) -> str:
        return self._interface.mac

    @property
    def mtu(self) -> int:
        return self._interface.mtu

    @property
    def superframes(self) -> bool:
        return self._interface.superframes

    @property
    def address(self) -> str | None:
        return self._interface.address

    @property
    def persistent(self) -> bool:
        return self._interface.persistent

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"local:{self.name}", self.dropped)

    async def facts(self) -> HostFacts:
        return await self._interface.facts()

    async def set_mtu(self, mtu: int) -> None:
        await self._interface.set_mtu(mtu)

    async def set_address(self, address: str | None) -> None:
        await self._interface.set_address(address)

    async def wait_readable(self) -> None:
        await self._interface.wait_readable()

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        records = self._interface.read_nowait(limit)
        kept = [record for record in records if not is_dhcp_untrusted(record)]
        if len(kept) < len(records):
            self.dropped["dhcp"] += len(records) - len(kept)
            if not kept:
                raise trio.WouldBlock
        return kept

    async def wait_writable(self) -> None:
        await self._interface.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        kept = [record for record in records if not is_dhcp_untrusted(record)]
        taken = self._interface.write_nowait(kept)
        if len(kept) == len(records):
            return taken
        # What is dropped counts as taken, up to the first record that was not.
        done = 0
        for record in records:
            if is_dhcp_untrusted(record):
                self.dropped["dhcp"] += 1
            elif taken:
                taken -= 1
            else:
                break
            done += 1
        return done

    def close(self) -> None:
        self._interface.close()

    async def aclose(self) -> None:
        await self._interface.aclose()
