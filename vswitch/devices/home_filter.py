"""A host's interface through which what configures hosts does not pass: two LANs that are bridged
keep their own DHCP servers, and their own routers of IPv6.

Both directions; everything else is the interface's own doing, errors too. What is dropped is
counted in its `dropped`, as `dhcp` or `ra`. No defence: a host that means harm can hide either.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from vswitch.devices.host_interface import HostFacts, HostInterface
from vswitch.frames.headers import autoconfiguration_untrusted
from vswitch.switch.device import Description

STAYS_HOME: Final = ("dhcp", "ra")  # what can, and why a frame was dropped then


class HomeFilter:
    """Around an interface. Implements `vswitch.devices.host_interface.HostInterface`."""

    def __init__(self, interface: HostInterface, stays: frozenset[str]) -> None:
        """`stays`: what of `STAYS_HOME` does not pass."""
        self.inner = interface
        self._interface = interface
        self._stays = stays
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
        records, stays = self._interface.read_nowait(limit), self._stays
        kept = [record for record in records if autoconfiguration_untrusted(record) not in stays]
        if len(kept) < len(records):
            kinds = map(autoconfiguration_untrusted, records)
            self.dropped.update(kind for kind in kinds if kind in stays)
            if not kept:
                raise trio.WouldBlock
        return kept

    async def wait_writable(self) -> None:
        await self._interface.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        stays = self._stays
        kept = [record for record in records if autoconfiguration_untrusted(record) not in stays]
        taken = self._interface.write_nowait(kept)
        if len(kept) == len(records):
            return taken
        # What is dropped counts as taken, up to the first record that was not.
        done = 0
        for record in records:
            kind = autoconfiguration_untrusted(record)
            if kind in stays:
                self.dropped[kind] += 1
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
