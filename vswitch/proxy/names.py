"""Names on the LAN: its members, as the switch knows them, and then DNS.

Members are asked for again when what is known is older than `FRESH`; while the switch does not
say, because it is away, older or a foreign one, the last answer holds. Other names are looked up
in the network of the LAN by `getent`, which does what any program there would get, each in a
process of its own, so that a slow name server holds nothing else up, and once in `FRESH`: a
datagram of SOCKS comes with its name.

Error contract: none of these raises for a name; what is not known has no addresses.
"""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import trio

from vswitch.errors import VswitchError

FRESH: Final = 5.0  # seconds
LOOKUP: Final = 20.0  # seconds for DNS: two name servers, twice
_LOOKUPS: Final = 16  # at once
_NAMES: Final = 256  # of DNS that are remembered
_ANSWER: Final = 64 * 1024  # bytes of `getent` that are read

Lookup = Callable[[str], Awaitable[Sequence[str]]]


class Start(Protocol):
    """Starts a program in the network of the LAN."""

    def __call__(
        self, argv: Sequence[str], *, stdin: int, stdout: int, stderr: int
    ) -> subprocess.Popen[bytes]: ...


class LanNames:
    """`lookup` is that of the LAN's side."""

    def __init__(self, members: Callable[[], Awaitable[Mapping[str, str]]], dns: Lookup) -> None:
        """`members` gives the addresses by name, or raises `VswitchError`."""
        self._ask = members
        self.dns = dns
        self._members: Mapping[str, str] = {}
        self._asked = -FRESH  # on Trio's clock
        self._asking = trio.Lock()
        self._found: dict[str, tuple[float, Sequence[str]]] = {}  # by DNS, when; oldest use first

    async def lookup(self, name: str) -> Sequence[str]:
        """The addresses of a name."""
        name = name.lower().removesuffix(".")
        async with self._asking:
            if trio.current_time() - self._asked >= FRESH:
                try:
                    self._members = await self._ask()
                except VswitchError:
                    pass
                self._asked = trio.current_time()
        if name in self._members:
            return [self._members[name]]
        asked, addresses = self._found.pop(name, (-FRESH, ()))
        if trio.current_time() - asked >= FRESH:
            addresses, asked = await self.dns(name), trio.current_time()
        self._found[name] = asked, addresses
        if len(self._found) > _NAMES:
            del self._found[next(iter(self._found))]
        return addresses


async def no_dns(name: str) -> Sequence[str]:
    """For a LAN without a name server."""
    await trio.lowlevel.checkpoint()
    return []


class Getent:
    """DNS in another network, by the system's own resolver there."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._free = trio.CapacityLimiter(_LOOKUPS)

    async def lookup(self, name: str) -> Sequence[str]:
        """The addresses of a name, in the order of preference."""
        async with self._free:
            child = self._start(
                ["getent", "ahosts", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                assert child.stdout is not None
                said = b""
                with trio.move_on_after(LOOKUP):
                    while len(said) < _ANSWER:
                        await trio.lowlevel.wait_readable(child.stdout)
                        # Readable, so this takes what is there and does not wait.
                        if not (more := child.stdout.read1(_ANSWER)):  # type: ignore[attr-defined]
                            break
                        said += more
            finally:
                child.kill()
                child.wait()
                if child.stdout is not None:
                    child.stdout.close()
        return addresses(said)


def addresses(said: bytes) -> list[str]:
    """The first word of each line, each once."""
    lines = said.decode("ascii", "replace").splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
