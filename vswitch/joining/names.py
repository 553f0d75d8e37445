"""The LAN's names on this host: its resolver asks the switch for one domain, while `join` runs.

    welcome ─▶ refuse_names (`host_trust.py`) ─▶ a way (`resolvers.py`) ─▶ undone at the end
    no switch just now ─▶ who asks is told so at once

What has been done is in a file of the member's state directory before it is done, so that the next
start undoes what a killed one has left. Where /etc is that of another network (a process in a
network namespace that shares the files of its host), nothing is done: it would be done to that one.

Error contract: what cannot be set is logged and in the status, and the session goes on without.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from vswitch.config.options import JoinConfig
from vswitch.devices.host_interface import Address, Network
from vswitch.errors import NotReachable, VswitchError
from vswitch.joining.host_trust import refuse_names
from vswitch.joining.resolvers import (
    HostsFile,
    Place,
    Wanted,
    Way,
    choose_way,
    search_domains,
    way_of,
)
from vswitch.logs import event
from vswitch.state import StateDir, write_file

log = logging.getLogger(__name__)

# For /etc/hosts alone: seconds until the next look at who is there, if the switch says nothing, and
# if it has not answered.
REFRESH: Final = 600.0
RETRY: Final = 15.0
SPREAD: Final = 1.0  # seconds in which those that have been told ask
_REVERSES: Final = 16  # domains of one network's addresses: a /20 has as many
_INIT: Final = Path("/proc/1")

Refuse = Callable[[str, object, object], None]
Peers = Callable[[], Awaitable[list[str]]]


class LanResolver:
    """What one `join` does to the resolver of this host."""

    def __init__(
        self, config: JoinConfig, dev: str, refuse: Refuse, place: Place | None = None
    ) -> None:
        """`refuse(what, value, reason)` is told of what is not set, and why; None: it is."""
        self._config = config
        self._dev = dev
        self._refuse = refuse
        self._place = place or Place()
        self._undo = config.files.names_undo(config.name)
        self._way: Way | None = None  # that is in force
        self._wanted: Wanted | None = None
        self._lan: Network | None = None
        self._look = trio.Event()  # who is there is to be asked now
        self._asked = True  # the name servers are, as far as the way knows
        self._not_told: str | None = None  # why the way does not know
        # One thread at a time, of those that `offer`, `follow` and `close` begin side by side.
        self._changing = threading.Lock()

    @property
    def servers(self) -> frozenset[Address]:
        """Those that were set: this host has them from the LAN, and not from elsewhere."""
        servers = () if self._wanted is None else self._wanted.servers
        return frozenset(map(ipaddress.ip_address, servers))

    @property
    def shown(self) -> str | None:
        """For the status."""
        if self._way is None or self._wanted is None:
            return None
        return f"{self._wanted.domain} ({self._way.name})"

    async def recover(self) -> None:
        """Undo what a process of this membership has left that was killed."""
        config = self._config
        await trio.to_thread.run_sync(recover, config.files, config.name, self._dev, self._place)

    async def offer(self, servers: Sequence[str], domain: str, address: str | None) -> None:
        """What the switch says now; `address` is that of the interface, in CIDR form."""
        if self._config.no_dns or not servers or address is None:
            await self.close()
            self._refuse("names", domain, None)
            return
        lan = ipaddress.ip_interface(address).network
        reason = await trio.to_thread.run_sync(
            self._alone, self._offer, tuple(servers), domain, lan
        )
        self._refuse("names", domain, reason)

    def _offer(self, servers: tuple[str, ...], domain: str, lan: Network) -> object:
        allowed = self._config.allow_domain
        if self._wanted is not None and self._wanted.domain == domain:
            search: tuple[str, ...] = ()  # what the host has is ours, and was judged before
            bare = self._wanted.bare
        else:
            self._close()
            search = search_domains(self._place.text("resolv.conf"))
            bare = not search or domain in allowed
        reason: object = refuse_names(servers, domain, lan, allowed, search)
        reason = reason or foreign_files(self._place)
        if reason is not None:
            self._close()
            return reason
        wanted = Wanted(self._dev, servers, domain, bare, reverse_domains(lan))
        self._lan = lan
        return None if wanted == self._wanted else self._set(wanted)

    def _set(self, wanted: Wanted) -> object:
        self._tell_way(True)  # of servers that are not written down from now on
        way = choose_way(self._place, self._config.name)
        other = way.taken_by(wanted)
        if other is not None and wanted.domain not in self._config.allow_domain:
            self._close()
            return (
                f"the link {other} of this host has that domain already, so these names are not "
                "set: give one of the networks another domain ([names] domain), or say "
                f"--allow-domain {wanted.domain}"
            )
        try:
            left = json.dumps({"way": way.name, "dev": wanted.dev, "servers": wanted.servers})
            write_file(self._undo, f"{left}\n".encode())
            way.set(wanted)
            if isinstance(way, HostsFile):
                way.put(wanted, {}, _own_name())
        except VswitchError as error:
            self._take_back(way, wanted)
            return error
        self._way, self._wanted, self._asked = way, wanted, True
        event(
            log,
            "names-set",
            member=self._config.name,
            dev=wanted.dev,
            way=way.name,
            domain=wanted.domain,
            servers=" ".join(wanted.servers),
            bare=None if wanted.bare else "no: this host has a domain of its own for them",
        )
        return None

    async def follow(self, peers: Peers) -> None:
        """Keep /etc/hosts current, where that is the way; until cancelled."""
        while True:
            self._look = trio.Event()
            pause, way, wanted = REFRESH, self._way, self._wanted
            if isinstance(way, HostsFile) and wanted is not None:
                try:
                    told = addresses_of(await peers(), self._lan)
                    await trio.to_thread.run_sync(self._alone, self._put, way, wanted, told)
                except NotReachable:
                    pause = RETRY  # an older switch, or one that is away: what is known holds
                except VswitchError as error:
                    self._refuse("names", wanted.domain, error)
            with trio.move_on_after(pause):
                await self._look.wait()
                await trio.sleep(random.uniform(0, SPREAD))

    async def reached(self, there: bool) -> None:
        """Whether the switch is. While it is not, a look-up below its domain fails at once, where
        it would wait for an answer; what is known from /etc/hosts is known all the same.
        """
        await trio.to_thread.run_sync(self._alone, self._tell_way, there)

    def _tell_way(self, there: bool) -> None:
        way, wanted = self._way, self._wanted
        if way is None or wanted is None or self._asked == there:
            return
        try:
            way.answers(wanted, there)
            self._asked, self._not_told = there, None
        except VswitchError as error:
            if str(error) != self._not_told:
                name = self._config.name
                event(log, "names-not-refused", logging.WARNING, member=name, reason=error)
            self._not_told = str(error)

    def look_again(self) -> None:
        """The switch has other members than before."""
        self._look.set()

    async def close(self) -> None:
        """Have the resolver as it was; also when cancelled."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._alone, self._close)

    def _alone(self, change: Callable[..., Any], *args: Any) -> Any:
        with self._changing:
            return change(*args)

    def _put(self, way: HostsFile, wanted: Wanted, told: Mapping[str, str]) -> None:
        if self._way is way and self._wanted is wanted:  # nobody has undone it meanwhile
            way.put(wanted, told, _own_name())

    def _close(self) -> None:
        way, wanted = self._way, self._wanted
        self._way = self._wanted = None
        self._asked, self._not_told = True, None
        if way is not None and wanted is not None:
            self._take_back(way, wanted)

    def _take_back(self, way: Way, wanted: Wanted) -> None:
        _take_back(self._undo, way, wanted.dev, wanted.servers)


def recover(files: StateDir, name: str, dev: str, place: Place | None = None) -> None:
    """Undo what a join of that member has left that was killed. Blocking."""
    path, place = files.names_undo(name), place or Place()
    try:
        left = json.loads(path.read_text())
        way, dev = str(left["way"]), str(left["dev"])
        servers = tuple(map(str, left.get("servers", ())))  # an older one has refused no questions
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        way, servers = "hosts", ()
    _take_back(path, way_of(way, place, name), dev, servers)
    event(log, "names-recovered", member=name, dev=dev, way=way)


def _take_back(path: Path, way: Way, dev: str, servers: Sequence[str]) -> None:
    try:
        way.undo(dev, servers)
        path.unlink(missing_ok=True)
    except (VswitchError, OSError) as error:
        # The file stays, and the next start tries again.
        event(log, "names-left-behind", logging.ERROR, dev=dev, way=way.name, reason=error)


def addresses_of(peers: Sequence[str], lan: Network | None) -> dict[str, str]:
    """Names and addresses of `Peers`: those on the LAN, for the switch names no other hosts."""
    found = {}
    for each in peers:
        name, _, address, _ = each.split(" ")
        address = address.partition("/")[0]
        if lan is not None and address != "-" and ipaddress.ip_address(address) in lan:
            found[name] = address
    return found


def reverse_domains(lan: Network) -> tuple[str, ...]:
    """The domains in which the names of a network's addresses are; none if they are too many."""
    if lan.version == 6:
        return ()
    prefix = -(-lan.prefixlen // 8) * 8  # the next one at the end of an octet
    if 1 << (prefix - lan.prefixlen) > _REVERSES:
        return ()
    octets = prefix // 8
    return tuple(
        ".".join(reversed(str(part.network_address).split(".")[:octets])) + ".in-addr.arpa"
        for part in lan.subnets(new_prefix=prefix)
    )


def foreign_files(place: Place, init: Path = _INIT) -> str | None:
    """Why the files that say how names are resolved are not this network's; None if they are."""
    try:
        if os.readlink("/proc/self/ns/net") == os.readlink(init / "ns/net"):
            return None
        ours, others = place.hosts.stat(), (init / "root/etc/hosts").stat()
    except OSError:  # not to be seen: another user's, or another mount namespace
        return None
    if (ours.st_dev, ours.st_ino) != (others.st_dev, others.st_ino):
        return None
    return f"{place.hosts} is that of another network: this one has no files of its own"


def _own_name() -> str:
    return socket.gethostname().partition(".")[0].lower()
