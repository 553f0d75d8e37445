"""`vswitch leave`: give a membership of this machine up."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial

from transport.crypto.identity import load_key_file
from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import JoinConfig, LeaveConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode, NotFound, NotReachable, NotRunning, RefusedError, TimedOut
from vswitch.joining import profiles
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry
from vswitch.state import StateDir, owners_beside


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "leave",
        "Have the switch forget this member, so that its name and address are free there, and\n"
        "remove its profile and key here. Stop its `vswitch join` first.",
        "vswitch leave pc1",
    )
    parser.add_argument("name", metavar="NAME", help="name of the member")
    parser.add_argument(
        "--force", action="store_true", help="remove them though the switch cannot be told"
    )
    add_flags(parser, LeaveConfig)


def run(args: argparse.Namespace) -> int:
    """First there, then here: a key that is gone can tell nobody."""
    config, name = config_from(args, LeaveConfig), args.name
    files = config.files
    with suppress(NotRunning):
        request(files.join_socket(name), "status")
        raise RefusedError(
            f"{name} is joined now: stop that first (`systemctl stop vswitch-join@{name}`, or "
            "Ctrl-C where it runs), then leave"
        )
    if files.profile(name).exists():
        try:
            _ask(profiles.load(files, name), config)
        except (NotReachable, TimedOut) as error:
            if not args.force:
                raise type(error)(
                    f"{error}; nothing was removed: try again, or with --force remove it here "
                    f"alone, and run `vswitch revoke {name}` at the switch"
                ) from None
    elif files.registry.exists() and files.key(name).exists():
        _leave_here(files, name)
    elif not files.key(name).exists():
        raise NotFound(f"no member of this machine is called {name}, in {files.path}")
    _undo(files, name)
    profiles.forget(files, name)
    if config.json:
        print_json({"schema": SCHEMA, "name": name})
    else:
        answer(f"{name} has left")
    return ExitCode.OK


def _undo(files: StateDir, name: str) -> None:
    """What a join that was killed has left on this host, for no start of it comes any more."""
    if files.names_undo(name).exists() or any(files.members.glob(f"{name}.*.undo")):
        from vswitch.joining.names import recover
        from vswitch.joining.routes import undo_left_behind

        recover(files, name, JoinConfig(name=name).dev)
        undo_left_behind(files, name)


def _ask(profile: profiles.Profile, config: LeaveConfig) -> None:
    import trio

    from vswitch.joining import proxies
    from vswitch.joining.leave import leave
    from vswitch.joining.pipes import over_https
    from vswitch.members.handshakes import post_quantum_of

    proxy_for = proxies.read(config.proxy, config.proxy_credentials)
    pipe = over_https(proxy_for, lambda: profile.server_key)
    trio.run(partial(leave, profile, pipe, post_quantum=post_quantum_of(config.pq)))


def _leave_here(files: StateDir, name: str) -> None:
    """Of a switch on this host, whose registry can be written."""
    key = load_key_file(files.key(name), owners_beside(files.path)).public
    with Registry.open(files.registry, create=False) as registry:
        registry.leave(key.raw)
