"""`leave`: a member has its switch forget it, in a session for that alone, without an interface.

Error contract: `NotReachable` or `TimedOut` if the switch was not found, or has not confirmed it;
an older switch never does.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NoReturn

import trio

from transport import ChannelBroken, PostQuantum
from vswitch.addresses import mac_from_key
from vswitch.config.options import DEFAULT_MTU
from vswitch.devices.pump import BATCH
from vswitch.errors import ByeCode, NotReachable
from vswitch.frames.ethernet import MAX_MTU, format_mac
from vswitch.joining.paths import PathPolicy
from vswitch.joining.pipes import RunPipe
from vswitch.joining.profiles import Profile
from vswitch.joining.reach import ResolvedAddresses, open_channel
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import FROM_SWITCH, Bye, ControlMessage, Hello, Leave, Welcome
from vswitch.registry.rules import EnrolRefused
from vswitch.version import SOFTWARE

PATIENCE: Final = 5.0  # seconds for the handshake
CONFIRM: Final = 10.0  # seconds for the rest: two syncs of a disk at worst

_FORGOTTEN: Final = (ByeCode.REVOKED, ByeCode.UNKNOWN)  # it was done before


async def leave(
    profile: Profile,
    run_pipe: RunPipe | None = None,
    *,
    post_quantum: PostQuantum = PostQuantum.AUTO,
) -> None:
    """Return once the switch does not know this member any more.

    `run_pipe` carries the HTTPS path where UDP does not pass, if the profile has one;
    `post_quantum`: whether the handshake is hybrid.
    """
    end: ChannelBroken | None = None
    try:
        async with open_channel(
            profile,
            None,
            ResolvedAddresses(),
            PathPolicy(https=run_pipe is not None and bool(profile.https)),
            run_pipe,
            patience=PATIENCE,
            resolved=trio.lowlevel.checkpoint,
            post_quantum=post_quantum,
        ) as reached:
            said: list[ControlMessage] = []
            device = MemberDevice(
                reached.channel,
                name="switch",
                mtu=MAX_MTU,
                hears=FROM_SWITCH,
                floods_end=False,
                on_control=said.append,
            )
            mac = format_mac(mac_from_key(profile.private_key.public.raw))
            device.send_control(Hello(DEFAULT_MTU, mac, profile.name, software=SOFTWARE))
            with trio.move_on_after(CONFIRM):
                try:
                    await _converse(device, said)
                except ChannelBroken as broken:
                    end = broken
    except EnrolRefused as refused:
        if refused.code in _FORGOTTEN:
            return
        raise
    if end is None or end.code not in (ByeCode.NORMAL, *_FORGOTTEN):
        byes = [each.reason for each in said if isinstance(each, Bye)]
        reason = "an older one cannot" if end is None else (byes or [str(end)])[0]
        raise NotReachable(f"the switch has not forgotten {profile.name}: {reason}")


async def _converse(device: MemberDevice, said: list[ControlMessage]) -> NoReturn:
    """Ask once we are in, and hear what comes until the session ends."""
    asked = False
    while True:
        await device.wait_readable()
        with suppress(trio.WouldBlock):  # frames of the LAN come, too
            device.read_nowait(BATCH)
        if not asked and any(isinstance(each, Welcome) for each in said):
            device.send_control(Leave())
            asked = True
