"""All probes, each with its own time, side by side: facts, and a probe that fails is one of them.

Error contract: `ConfigError` and `NotFound` for what was asked about; nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Final, TypeVar

import trio

from transport.crypto.identity import PrivateKey
from vswitch.addresses import DEFAULT_PORT, HostPort
from vswitch.doctor import host, units, way
from vswitch.doctor.findings import Facts, PathFacts
from vswitch.errors import ConfigError, VswitchError
from vswitch.joining import profiles, proxies
from vswitch.joining.pipes import over_https
from vswitch.joining.profiles import Profile
from vswitch.members.handshakes import PostQuantum
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.state import StateDir

T = TypeVar("T")

HOST_LIMIT: Final = 20.0  # seconds for one subject of this host
WAY_LIMIT: Final = 60.0  # seconds for one switch: two paths, a search, a clock
MOST_WAYS: Final = 8  # memberships that are looked at; others by their name

Target = Profile | HostPort | None


def target_of(files: StateDir, text: str | None) -> Target:
    """What was asked about: a join string, the name of a membership, a place, or nothing.

    Raises:
        ConfigError: it is none of these.
        NotFound: the profile is not there.
    """
    if text is None:
        return None
    if text.startswith(("vsw1:", "vsw2:")):
        string = JoinString.parse_untrusted(text)
        # A key of its own: that of the member is made when it joins.
        key = PrivateKey.generate()
        where = string.servers, string.server_key
        return Profile(string.name, *where, key, files, string, https=string.https)
    if text in profiles.names(files):
        return profiles.load(files, text)
    try:
        return HostPort.parse(text, default_port=DEFAULT_PORT)
    except ValueError as error:
        raise ConfigError(
            f"{text} is no join string, no membership in {files.path} and no place: {error}"
        ) from None


async def examine(
    files: StateDir,
    target: Target,
    post_quantum: PostQuantum = PostQuantum.AUTO,
    *,
    way_alone: bool = False,
    time: float = 0.0,
) -> Facts:
    """Gather all facts. `post_quantum`: whether handshakes are hybrid; `way_alone`: none of this
    host, and of the way those of a NAT besides, of which how long it remembers takes up to `time`
    seconds, if any.
    """
    failed: dict[str, str] = {}
    results: dict[str, Any] = {}

    async def probe(name: str, ask: Callable[[], Awaitable[T]], limit: float) -> T | None:
        try:
            with trio.fail_after(limit):
                result = await ask()
        except trio.TooSlowError:
            failed[name] = f"no answer within {limit:g} s"
        except Exception as error:
            text = str(error) if isinstance(error, VswitchError | OSError) else repr(error)
            failed[name] = text
        else:
            results[name] = result
            return result
        return None

    def of_host(function: Callable[..., T], *args: Any) -> Callable[[], Awaitable[T]]:
        return partial(trio.to_thread.run_sync, partial(function, *args), abandon_on_cancel=True)

    found = await probe("running", of_host(host.ask_running, files), HOST_LIMIT)
    switch, joins, hung, odd = found or (None, [], [], [])
    failed |= {f"what runs at {name}": why for name, why in odd}
    # Whose key may be in use, though nobody says so: a session with it would end the member's.
    in_use = (
        {path.name for path in files.join_sockets()}
        if found is None
        else {name for name, _ in (*hung, *odd)}
    )
    places = await probe("served", of_host(_served_port, files), HOST_LIMIT)
    joined = {join.name: join for join in joins}
    async with trio.open_nursery() as nursery:

        def start(name: str, ask: Callable[[], Awaitable[Any]], limit: float = HOST_LIMIT) -> None:
            nursery.start_soon(probe, name, ask, limit)

        async def service() -> None:
            known = await probe("units", of_host(units.known), HOST_LIMIT) or []
            await probe("configuration", of_host(units.configuration, files, known), HOST_LIMIT)

        nat_time = time if way_alone else None
        ways = _ways(files, target, joined, in_use, post_quantum, nat_time)
        for number, (name, ask) in enumerate(ways):
            if number < MOST_WAYS:
                start(f"way {name}", ask, WAY_LIMIT + time)
        if not way_alone:
            port = places if switch is None else None
            start("what runs", of_host(host.running, (switch, joins, hung), port))
            nursery.start_soon(service)
            start("installation", of_host(host.installed))
            start("tap", of_host(host.tap))
            start("interfaces", of_host(host.interfaces, joins))
            start("state directory", of_host(host.state, files))
        for hook, port in _ports(places, target, files):
            start(f"firewall {hook}", of_host(host.firewall, hook, port))
    rules = [results[name] for name in results if name.startswith("firewall ")]
    return Facts(
        paths=[results[name] for name in sorted(results) if name.startswith("way ")],
        running=results.get("what runs"),
        units=units.failed(results.get("units", ())),
        configuration=results.get("configuration"),
        installed=results.get("installation"),
        tap=results.get("tap"),
        interfaces=results.get("interfaces", ()),
        firewall=[rule for found in rules for rule in found or ()],
        files=results.get("state directory"),
        failed=failed,
    )


def _served_port(files: StateDir) -> int | None:
    """The UDP port of the switch whose state this is, as it was served last."""
    if not files.registry.exists():
        return None
    with Registry.open(files.registry, create=False) as registry:
        served = registry.served()
    return None if served is None else served.listen[0].port


def _ways(
    files: StateDir,
    target: Target,
    joined: dict[str, Any],
    in_use: Collection[str],
    post_quantum: PostQuantum,
    nat_time: float | None,
) -> list[tuple[str, Callable[[], Awaitable[PathFacts]]]]:
    """The switches to ask, and how: a member that is connected is not asked to be so again."""
    if isinstance(target, HostPort):
        return [(target.text(), partial(way.ask_place, target))]
    known: list[Profile | str] = [target] if target is not None else [*profiles.names(files)]
    return [_way_of(files, each, joined, in_use, post_quantum, nat_time) for each in known]


def _way_of(
    files: StateDir,
    each: Profile | str,
    joined: dict[str, Any],
    in_use: Collection[str],
    post_quantum: PostQuantum,
    nat_time: float | None,
) -> tuple[str, Callable[[], Awaitable[PathFacts]]]:
    name = each if isinstance(each, str) else each.name

    async def look() -> PathFacts:
        # A string that was not used yet stands for a member that is not here.
        member = isinstance(each, str) or each.invite is None
        if member and files.join_socket(name).name in in_use:
            raise VswitchError("it runs and does not say how, so its session is left alone")
        runs = joined.get(name) if member else None
        connected = runs is not None and runs.state == "up"
        if connected and nat_time is None:
            return await status()
        profile = (
            each
            if not isinstance(each, str)
            else await trio.to_thread.run_sync(profiles.load, files, each)
        )
        if connected:
            facts = await status()
        elif runs is not None:
            facts = await way.ask_beside(runs, profile)
        else:
            proxy_for = await trio.to_thread.run_sync(proxies.read)
            run_pipe = over_https(proxy_for, lambda: profile.server_key)
            facts = await way.ask(profile, run_pipe, post_quantum)
        if nat_time is None:
            return facts
        connected = runs is not None
        return await way.ask_nat(facts, profile, nat_time, post_quantum, connected=connected)

    async def status() -> PathFacts:
        return way.of_status(joined[name], await trio.to_thread.run_sync(host.addresses))

    return name, look


def _ports(served: int | None, target: Target, files: StateDir) -> list[tuple[str, int]]:
    """Which UDP ports have to pass here, and where."""
    found = [] if served is None else [("input", served)]
    if isinstance(target, HostPort):
        found.append(("output", target.port))
    elif target is not None:
        found += [("output", each.port) for each in target.servers]
    return found
