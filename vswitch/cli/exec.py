"""`vswitch exec`: run a program on the LAN, as an ordinary user.

The program runs in a network of its own, where the LAN is all there is; the session with the
switch stays in that of the host. It has this terminal and is of the same process group, so that
Ctrl-C and Ctrl-Z reach both, as with `env` or `nice`; what is sent to this process alone is passed
on. Its exit status is that of the command; for one that a signal ended, 128 and its number.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from vswitch.addresses import check_name
from vswitch.cli.common import Subparsers, add_command, log_as, say
from vswitch.cli.join import sandbox_config
from vswitch.config.options import ExecConfig, JoinConfig, ProxyConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, VswitchError

if TYPE_CHECKING:
    from vswitch.members.protocol import Welcome

_SIGNALS = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FILES = 64  # sockets, namespaces and modules on their way in, at once; it is done with 24
_KEYS = (signal.SIGINT, signal.SIGQUIT)  # of the terminal, which sends them to the program, too


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "exec",
        "Run a program as a member: in a network of its own, where the LAN is all there is. It\n"
        "needs no root, and changes nothing on this host. The string is needed the first time\n"
        "only. It ends as the program does, with the same exit status.",
        "vswitch exec vsw2:... --name t1 -- ping -c3 10.77.0.1",
    )
    parser.add_argument(
        "invite",
        nargs="?",
        metavar="STRING|-",
        help="what `vswitch invite` printed; - for standard input",
    )
    add_flags(parser, ExecConfig)
    parser.usage = f"{parser.usage} -- PROGRAM [ARGUMENT ...]"


def run(args: argparse.Namespace) -> int:
    """Be a member for as long as the program runs; its exit status."""
    config = sandbox_config(args, ExecConfig)
    argv: list[str] = args.program
    if config.shell and argv:
        raise ConfigError("--shell and a program: give one of them")
    if config.shell:
        argv = [os.environ.get("SHELL") or "/bin/sh"]
    if not argv and not config.keep:
        raise ConfigError("nothing to run: vswitch exec --name NAME -- PROGRAM, or --shell")
    from vswitch.runtime import allow_files, keep_memory

    if (allowed := allow_files(_FILES)) < _FILES:
        raise VswitchError(
            f"exec may have {allowed} files open, and needs up to {_FILES}: raise the limit of "
            f"this process (`ulimit -Hn {_FILES}`)"
        )
    config.files.ensure(as_guest=True)
    log_as(config)
    import trio

    keep_memory()
    return trio.run(_main, config, argv)


async def _main(config: ExecConfig, argv: list[str]) -> int:
    import trio

    from vswitch.runtime import single_error

    program = _Program(wanted=bool(argv))
    # What whoever started us has us ignore (nohup), the program ignores as well.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with single_error(), ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            if heard:
                signals = stack.enter_context(trio.open_signal_receiver(*heard))
                nursery.start_soon(program.follow, signals, nursery.cancel_scope)
            await _be_member(config, argv, program)
            nursery.cancel_scope.cancel()
    return program.status or ExitCode.OK


async def _be_member(config: ExecConfig, argv: list[str], program: _Program) -> None:
    from functools import partial

    import trio

    from vswitch.joining.member import join
    from vswitch.namespaces.dhcp_client import ask_for_lease
    from vswitch.namespaces.sandbox import Settings, open_sandbox

    settings = Settings(root=config.root, resolvers=config.resolver)
    async with open_sandbox(settings) as sandbox, trio.open_nursery() as nursery:
        opener = sandbox.open_interface
        welcome = await nursery.start(partial(join, config, open_interface=opener))
        if servers := name_servers(config, welcome):
            await sandbox.resolve_with(servers, welcome.domain)
        else:
            await sandbox.set_hosts(await trio.to_thread.run_sync(_known_names, config))
        if config.dhcp:
            await ask_for_lease(sandbox, config.dev)
        if argv:
            await program.run(sandbox.start(argv))
            await sandbox.linger()
        if config.keep:
            say(f"vswitch: {config.name} stays until Ctrl-C; to go in: {sandbox.enter}")
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()


def name_servers(config: ExecConfig | ProxyConfig, welcome: Welcome) -> tuple[str, ...]:
    """Those of the switch, where the sandbox is to ask them; a user who names others means those.
    All that there is in a sandbox is of the LAN, so names of others may be asked of it as well.
    """
    wanted = not (config.no_dns or config.resolver) and welcome.address and welcome.domain
    return welcome.names if wanted else ()


def _known_names(config: JoinConfig) -> dict[str, str]:
    try:
        return names_of(config)
    except VswitchError:  # an older switch, or a foreign one: there are no names
        return {}


def names_of(config: JoinConfig) -> dict[str, str]:
    """The members of the LAN that have an address, as the switch knows them now; `VswitchError`."""
    from vswitch.management.client import request

    peers = request(config.files.join_socket(config.name), "peers", timeout=10.0)["members"]
    found = {}
    for each in peers:
        with suppress(ValueError):  # what a switch says that is none of ours
            address = ip_interface(each["address"] or "").ip
            found[check_name(each["name"])] = str(address)
    return found


class _Program:
    """The program, and what it has to do with signals."""

    def __init__(self, *, wanted: bool) -> None:
        """`wanted`: there is one, so that to end before it has run is no success."""
        self._wanted = wanted
        self.status: int | None = None  # once something has ended it, or kept it from running
        self._child: subprocess.Popen[Any] | None = None  # while it runs

    async def run(self, child: subprocess.Popen[Any]) -> None:
        """Wait for its end, or end it."""
        from vswitch.namespaces.sandbox import until_it_ends

        self._child = child
        try:
            self.status = await until_it_ends(child)
        finally:
            self._child = None
            child.kill()
            child.wait()

    async def follow(self, signals: Any, scope: Any) -> None:
        """Pass signals on; end the member with the first one that comes while nothing runs."""
        async for number in signals:
            if self._child is None:
                if self.status is None and (self._wanted or number == signal.SIGINT):
                    self.status = 128 + number
                scope.cancel()
            elif number not in _KEYS or not _has_terminal():
                self._child.send_signal(number)


def _has_terminal() -> bool:
    """Whether this process group is the one that the keys of the terminal reach."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    finally:
        os.close(fd)
