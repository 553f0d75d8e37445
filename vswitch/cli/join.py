"""`vswitch join`: plug this machine into a switch and stay connected."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TypeVar

import attrs

from vswitch.cli.common import Subparsers, add_command, config_from, log_as, run_service, say
from vswitch.config.options import JoinConfig, SandboxConfig
from vswitch.config.sources import add_flags, given_options
from vswitch.config.words import to_name
from vswitch.errors import ConfigError
from vswitch.registry.invite import JoinString

T = TypeVar("T", bound=JoinConfig)
S = TypeVar("S", bound=SandboxConfig)

_PATIENCE = 10.0  # s after which a service manager takes a member that has no switch as started
_ASK = "ask"  # of --bind
_LINE_LIMIT = 4096  # characters; a join string has at most 512


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "join",
        "Join a switch and stay connected until stopped. The string is needed the first time\n"
        "only, and not on the host of the switch itself. The TAP needs root.\n"
        "Options are also variables VSWITCH_OPTION and keys of [join] in --config FILE.",
        "vswitch join vsw2:...",
    )
    parser.add_argument(
        "invite",
        nargs="?",
        metavar="STRING|-",
        help="what `vswitch invite` printed; - for standard input",
    )
    add_flags(parser, JoinConfig)


def run(args: argparse.Namespace) -> int:
    """Stay joined until a signal comes or the switch refuses."""
    config = member_config(args, JoinConfig)
    if config.user is not None:
        from vswitch.namespaces.privilege import Capability, become

        become(config.user, {Capability.NET_ADMIN}, config.files)
    if config.bind == _ASK:
        config = attrs.evolve(config, bind=_ask_for_interface(config.dev))
    config.files.ensure(as_guest=True)
    log_as(config)
    import trio

    from vswitch.joining.member import join
    from vswitch.supervision import Readiness, notify, status

    async def service() -> None:
        ready = Readiness()
        async with trio.open_nursery() as nursery:
            # What a switch refuses it has refused by then; one that is away may be so for days.
            nursery.start_soon(ready.started_after, _PATIENCE)
            notify(status(f"{config.name}: connecting"))
            await join(config, task_status=ready, on_state=lambda text: notify(status(text)))
            nursery.cancel_scope.cancel()

    return run_service(service)


def member_config(args: argparse.Namespace, cls: type[T]) -> T:
    """The options of a command that makes a member, with the name that its string may have."""
    invite = args.invite
    if invite == "-":
        invite = _read_invite()
    elsewhere = args.config or os.environ.get("VSWITCH_CONFIG") or os.environ.get("VSWITCH_NAME")
    if args.name is None and not elsewhere:
        if args.via is not None:
            args.name = _name_without_registry(args)
        elif invite is not None:
            args.name = JoinString.parse_untrusted(invite).name or None
        else:
            raise ConfigError(
                "name is missing: give the string that `vswitch invite NAME` has printed at the "
                "switch, or --name NAME (VSWITCH_NAME) once this host has joined"
            )
    given = frozenset(given_options(cls, vars(args), os.environ))
    return config_from(args, cls, table=cls.table, invite=invite, given=given)


def sandbox_config(args: argparse.Namespace, cls: type[S]) -> S:
    """The same for a member in a network of its own."""
    config = member_config(args, cls)
    return attrs.evolve(config, address="none") if config.dhcp else config


def _name_without_registry(args: argparse.Namespace) -> str:
    """A name for a member that nobody asks for one: that of its interface, if nothing else is."""
    dev = args.dev or os.environ.get("VSWITCH_DEV") or "vsw0"
    try:
        return to_name(dev)
    except ValueError:
        return "foreign"


def _ask_for_interface(dev: str) -> str:
    """Which interface the datagrams leave by, asked at the terminal: all but the TAP's."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "--bind ask asks at a terminal, and there is none: give an address or an interface"
        )
    from vswitch.devices import netlink
    from vswitch.management.tables import table

    found = [each for each in netlink.interfaces() if each[0].name != dev]
    names = [link.name for link, _ in found]
    rows = [
        [str(number), link.name, link.mac or "-", "up" if link.up else "down", ", ".join(addresses)]
        for number, (link, addresses) in enumerate(found, 1)
    ]
    say(table(["#", "INTERFACE", "MAC", "STATE", "ADDRESSES"], rows))
    while True:
        say("which one leads to the switch? its number or name:")
        if not (line := sys.stdin.readline(_LINE_LIMIT)):
            raise ConfigError("--bind ask: no interface was chosen")
        said = line.strip()
        if said in names:
            return said
        if said.isascii() and said.isdigit() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]


def _read_invite() -> str:
    if sys.stdin.isatty():
        say("paste the join string and press Enter:")
    line = sys.stdin.readline(_LINE_LIMIT).strip()
    if not line:
        raise ConfigError("there is no join string on standard input")
    return line
