"""`join --via`: a TAP of this host and a foreign port of a switch, with no session between.

    TAP ─▶ QueuedPump: cut to the MTU, fair queue ─▶ datagrams, or TCP or KCP ─▶ switch, and back

A UDP or KCP switch learns of us from our first frame and may forget us when we are silent, so one
that goes no further than the next bridge (to 01-80-C2-00-00-0E) is sent at the start and every
minute without another. A TCP connection that ends or cannot be made, and a KCP conversation in
which nothing comes back, is tried again after 10 s ± 10 %. The MAC address of the TAP is made up
once and kept in the state directory. What the switch sends back to us of what we have sent is
dropped (`echoes.py`).

Error contract: `VswitchError` for what has to be mended on this host; with `config.once` the first
failure is raised.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import trio

from vswitch.addresses import HostPort, mac_from_key
from vswitch.api.member import member_api
from vswitch.api.socket import serve_control
from vswitch.api.table import Verbs
from vswitch.config.options import JoinConfig
from vswitch.devices.bridge import OpenInterface
from vswitch.errors import BadRecord, ConfigError, NotReachable, VswitchError
from vswitch.foreign.kinds import KINDS, ForeignDevice
from vswitch.foreign.streams import ConnectionEnded, StreamDevice
from vswitch.frames.ethernet import format_mac, is_group, parse_mac
from vswitch.frames.records import frame_record
from vswitch.joining.configuration import MemberConfiguration
from vswitch.joining.echoes import EchoFilter
from vswitch.joining.host_link import HostLink, contain_faults, open_host_link
from vswitch.logs import event
from vswitch.members.protocol import Welcome
from vswitch.proxy.status import ProxyStatus
from vswitch.runtime import single_error
from vswitch.state import file_error, write_file

log = logging.getLogger(__name__)

RETRY: Final = 10.0  # seconds until a connection is tried again
RETRY_SPREAD: Final = 0.1  # ± share, so that the clients of a switch that restarts come one by one
SAY_HELLO: Final = 60.0  # seconds without a frame: well below the 300 of a switch
NEAREST_BRIDGE: Final = bytes.fromhex("0180c200000e")
LOCAL_EXPERIMENTAL: Final = b"\x88\xb5"  # EtherType of IEEE 802


async def join_via(
    config: JoinConfig,
    via: str,
    open_interface: OpenInterface,
    task_status: trio.TaskStatus[Welcome],
    listeners: Callable[[], list[ProxyStatus]] = list,
    on_state: Callable[[str], object] = str,
) -> None:
    """Be plugged into a foreign port until cancelled. Started when frames can pass."""
    mac = await trio.to_thread.run_sync(_kept_mac, config)
    address = None if config.address in ("auto", "none") else config.address
    with single_error():
        async with (
            open_host_link(
                config, via, open_interface, task_status, new_mac=mac, address=address
            ) as link,
            trio.open_nursery() as nursery,
        ):
            link.listeners, link.on_state = listeners, on_state
            path = config.files.join_socket(config.name)
            told: Verbs = {"status": link.status, "events": link.said_events}
            api = member_api(config.files, told, MemberConfiguration(config, link.go_by))
            await nursery.start(serve_control, path, api)
            await _PlainMember(config, via, link).run()


def _kept_mac(config: JoinConfig) -> str:
    """The MAC address that this host has under its name: made up the first time, since others look
    for it where it was last. Where it cannot be kept, the log says so.
    """
    config.files.ensure()
    path = config.files.mac(config.name)
    try:
        mac = parse_mac(path.read_text().strip())
        if is_group(mac):
            raise ValueError("a group's address")
        return format_mac(mac)
    except FileNotFoundError:
        mac = mac_from_key(secrets.token_bytes(32))
    except OSError as error:
        raise file_error("MAC address", path, error) from None
    except ValueError as error:
        raise ConfigError(f"MAC address {path}: {error}: remove the file") from None
    try:
        write_file(path, f"{format_mac(mac)}\n".encode())
    except VswitchError as error:
        event(log, "mac-not-kept", logging.WARNING, member=config.name, reason=str(error))
    return format_mac(mac)


class _PlainMember:
    """This host, through all its connections."""

    def __init__(self, config: JoinConfig, via: str, link: HostLink) -> None:
        self._config = config
        self._via = via
        self._link = link

    async def run(self) -> NoReturn:
        """Connection after connection."""
        event(
            log,
            "foreign-connecting",
            logging.WARNING,
            member=self._config.name,
            server=self._via,
            plain_text="not encrypted, not authenticated: whoever is on the path is in the LAN",
        )
        kind, _, where = self._via.partition("://")
        connect = KINDS[kind].connect
        assert connect is not None  # the configuration sees to it
        mtu = self._link.interface.mtu
        while True:
            try:
                with contain_faults(self._link):
                    async with connect(HostPort.parse(where), self._config.bind, mtu) as device:
                        await self._carry(device)
            except (OSError, NotReachable, ConnectionEnded, BadRecord) as error:
                failure = NotReachable(_reason(error))
            if self._config.once:
                raise failure
            self._link.lost(str(failure))
            await trio.sleep(RETRY * random.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD))

    def _note_success(self, device: EchoFilter) -> None:
        """Nobody welcomes us: what a switch would say is what we have set."""
        interface = self._link.interface
        name, address, mtu = self._config.name, interface.address, interface.mtu
        self._link.connected(device, Welcome(name, 1, address, mtu=mtu, lane="plain"))

    async def _carry(self, device: ForeignDevice) -> NoReturn:
        remote = EchoFilter(device)
        self._note_success(remote)
        if isinstance(device, StreamDevice):
            await self._link.carry(remote)
        await self._link.carry(remote, partial(self._say_hello, remote))

    async def _say_hello(self, device: EchoFilter) -> None:
        """Let a switch without connections know that we are there, whenever nothing else has."""
        mac = parse_mac(self._link.interface.mac)
        hello = frame_record(NEAREST_BRIDGE + mac + LOCAL_EXPERIMENTAL + bytes(46))
        before: int | None = None
        while True:
            if before in (None, self._link.sent.frames):
                device.write_nowait([hello])
            before = self._link.sent.frames
            await trio.sleep(SAY_HELLO)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"cannot reach the switch: {os.strerror(error.errno)}"
    return str(error)
