"""`vswitch proxy`: connections between programs of this host and the LAN, as an ordinary user.

The member is in a network of its own, as with `exec`; sockets of that network are handed out to
this process, which relays between them and those of the host.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vswitch.cli.common import Subparsers, add_command, log_as, run_service, say
from vswitch.cli.join import sandbox_config
from vswitch.config.options import ProxyConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError
from vswitch.runtime import allow_files

if TYPE_CHECKING:
    import trio

_PATIENCE = 10.0  # s after which a service manager takes a member that has no switch as started
_DESCRIPTORS = 256  # of everything but connections
_USERS_BYTES = 1 << 20


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "proxy",
        "Be a member without root, and give programs of this host the LAN: by SOCKS5, by ports\n"
        "here that lead there (--forward), and by ports there that lead here (--reverse). UDP\n"
        "has udp: in front: --forward udp:5353=pc1:53. A path with / in it is a Unix socket.\n"
        "Options are also variables VSWITCH_OPTION and keys of [proxy] in --config FILE.",
        "vswitch proxy vsw2:... --name t1 --socks 1080 --forward 8080=pc1:80",
    )
    parser.add_argument(
        "invite",
        nargs="?",
        metavar="STRING|-",
        help="what `vswitch invite` printed; - for standard input",
    )
    add_flags(parser, ProxyConfig)


def run(args: argparse.Namespace) -> int:
    """Relay until a signal comes or the switch refuses."""
    config = sandbox_config(args, ProxyConfig)
    if not (config.socks or config.forward or config.reverse):
        raise ConfigError("nothing to do: give --socks, --forward or --reverse")
    users = None if config.socks_users is None else read_users(config.socks_users)
    config.files.ensure(as_guest=True)
    log_as(config)
    import trio

    config = _as_descriptors_allow(config)
    stop = trio.CancelScope()
    return run_service(lambda: _serve(config, users, stop), stop)


async def _serve(
    config: ProxyConfig, users: Mapping[bytes, bytes] | None, stop: trio.CancelScope
) -> None:
    from functools import partial

    import trio

    from vswitch.cli.exec import name_servers
    from vswitch.joining.member import join
    from vswitch.namespaces.dhcp_client import ask_for_lease
    from vswitch.namespaces.sandbox import Settings, open_sandbox
    from vswitch.proxy.counts import Limit
    from vswitch.proxy.listeners import Limits
    from vswitch.proxy.names import Getent, LanNames, no_dns
    from vswitch.proxy.service import Rules, open_proxy
    from vswitch.proxy.sides import Side, host_names, host_socket
    from vswitch.supervision import Readiness

    limits = Limits(
        Limit(config.max_connections), Limit(config.max_associations), config.idle, config.udp_idle
    )
    rules = Rules(config.socks, config.forward, config.reverse, users)
    ready = Readiness()
    async with open_sandbox(Settings(resolvers=config.resolver)) as sandbox:
        getent = Getent(sandbox.start).lookup
        dns = getent if config.resolver or config.dhcp else no_dns
        names = LanNames(partial(_members, config), dns)
        lan = Side(sandbox.socket, names.lookup, may_be_absent=True)
        async with (
            open_proxy(rules, limits, Side(host_socket, host_names), lan) as proxy,
            trio.open_nursery() as nursery,
        ):
            with stop:
                nursery.start_soon(ready.started_after, _PATIENCE)
                welcome = await nursery.start(
                    partial(
                        join, config, open_interface=sandbox.open_interface, listeners=proxy.status
                    )
                )
                if servers := name_servers(config, welcome):
                    await sandbox.resolve_with(servers, welcome.domain)
                    names.dns = getent
                if config.dhcp:
                    await ask_for_lease(sandbox, config.dev)
                ready.started()
                await proxy.run()
            # The member stays until the LAN has what was sent to it, ends and resets too.
            await sandbox.linger()
            nursery.cancel_scope.cancel()


async def _members(config: ProxyConfig) -> dict[str, str]:
    """The members of the LAN that have an address, as the switch knows them now."""
    import trio

    from vswitch.cli.exec import names_of

    return await trio.to_thread.run_sync(names_of, config)


def read_users(path: Path) -> dict[bytes, bytes]:
    """Passwords by user, from lines of USER:PASSWORD; empty lines and those with # do not count.

    Raises:
        ConfigError: it cannot be read, others can read it, or it is none.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read(_USERS_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--socks-users {path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"--socks-users {path}: others can read it: chmod 600 {path}")
    users = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        user, colon, password = line.partition(b":")
        if not (colon and 0 < len(user) < 256 and 0 < len(password) < 256):
            raise ConfigError(
                f"--socks-users {path}: line {number}: write USER:PASSWORD, 1 to 255 bytes each"
            )
        users[user] = password
    if not users or len(data) > _USERS_BYTES:
        raise ConfigError(f"--socks-users {path}: no user in it, or more than {_USERS_BYTES} bytes")
    return users


def _as_descriptors_allow(config: ProxyConfig) -> ProxyConfig:
    """Raise the limit of open files to what the other limits need, as far as that goes; and lower
    these where that is not enough, so that clients never take what the member itself needs.
    """
    needed = 2 * config.max_connections + 3 * config.max_associations
    allowed = allow_files(needed + _DESCRIPTORS)
    share = (allowed - min(_DESCRIPTORS, allowed * 3 // 4)) / needed
    if share >= 1:
        return config
    config = attrs.evolve(
        config,
        max_connections=max(1, int(config.max_connections * share)),
        max_associations=max(1, int(config.max_associations * share)),
    )
    say(
        f"vswitch: warning: {allowed} open files are allowed, enough for {config.max_connections} "
        f"connections and {config.max_associations} UDP clients at once: see `ulimit -Hn`, or "
        "LimitNOFILE= of a unit"
    )
    return config
