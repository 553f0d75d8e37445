"""`vswitch serve`: run the switch in the foreground."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vswitch.cli.common import Subparsers, add_command, config_from, log_as, run_service, say
from vswitch.config.options import ServeConfig
from vswitch.config.sources import add_flags, given_options
from vswitch.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from vswitch.serving.server import Serving

_DESCRIPTORS = 1 << 17  # what is published has two for each connection, and rules come live


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "serve",
        "Run the switch until it is stopped. It needs no privilege.\n"
        "Options are also variables VSWITCH_OPTION and keys of [serve] in --config FILE.",
        "vswitch serve --public switch.example.org --subnet 10.77.0.0/24",
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what is wrong with the options, and end"
    )
    add_flags(parser, ServeConfig)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    if args.check:
        return _check(args)
    config = config_from(args, ServeConfig, table="serve")
    given = given_options(ServeConfig, vars(args), os.environ)
    if config.user is not None:
        _become(config.user, config, given)
    config.files.ensure()
    log_as(config)
    from vswitch.runtime import allow_files
    from vswitch.serving.server import serve
    from vswitch.supervision import Readiness, notify, reloading, status

    class Ready(Readiness):
        """Keeps what runs, for SIGHUP."""

        serving: Serving | None = None

        def started(self, value: object = None) -> None:
            self.serving = cast("Serving | None", value)
            notify(status(_state(self.serving)))  # else it would be said to be starting for a while
            super().started()

    ready = Ready()

    async def hang_up() -> None:
        if ready.serving is not None:  # else it reads the files now, anyway
            with reloading():
                await ready.serving.reloader.on_signal()

    allow_files(_DESCRIPTORS)
    service = partial(serve, config, given=given, task_status=ready)
    return run_service(service, hang_up=hang_up, state=lambda: _state(ready.serving))


def _become(user: str, config: ServeConfig, given: Mapping[str, Any]) -> None:
    """That user, who can plug in this host if file or flags say so. What is kept in the state
    directory is the user's, who must not get rights by it, nor have root read what he names.
    """
    from vswitch.config.networks import below
    from vswitch.namespaces.privilege import Capability, become
    from vswitch.serving.configuration import Configuration

    plans = Configuration.unkept(config, given).plans.values()
    needed = {Capability.NET_BIND_SERVICE}
    if any(plan.config.local_port for plan in plans):
        needed.add(Capability.NET_ADMIN)
    if not become(user, needed, config.files) or Capability.NET_ADMIN in needed:
        return
    for plan in Configuration.read(config, given).plans.values():
        if plan.config.local_port:  # else its TAP fails, which says that root is needed
            raise ConfigError(
                f"{config.files.saved}: {below(plan.name) or 'serve.'}local_port: what is kept is "
                f"of {user}, who gets no right to plug in this host by it: say local_port in the "
                "configuration file, too, or for the default network --local-port"
            )


def _state(serving: Serving | None) -> str:
    """For the service manager."""
    if serving is None:
        return "starting"
    members = sum(len(each.reception.connected) for each in serving.networks.values())
    return f"serving at {' '.join(map(str, serving.listens))}, members connected: {members}"


def _check(args: argparse.Namespace) -> int:
    """All that is wrong with the options and with each table of the file; nothing is started."""
    from vswitch.serving.https import certificate_of
    from vswitch.serving.plan import plan_networks

    said = args.config or os.environ.get("VSWITCH_CONFIG")
    path = Path(said) if said else None
    problems: list[str] = []
    config = ServeConfig(config=path)  # the tables are looked at, whatever is wrong with options

    def options() -> None:
        nonlocal config
        config = config_from(args, ServeConfig, table="serve")

    for look in (options, lambda: plan_networks(config), lambda: certificate_of(config)):
        try:
            look()
        except ConfigError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(problems))
    say(f"vswitch: {path or 'the options'}: nothing is wrong")
    return ExitCode.OK
