"""Whether whoever is at an address knows a switch's public key, and as whom it sees this host.

A switch takes a few inits of one address in silence and answers what is beyond them with a cookie:
it is sealed for who knows the switch's key, and the same for inits that came from one address and
port. So a burst of inits under a key made for the occasion, which no switch knows, shows that the
switch is there, without a session; and at two places of it, whether a NAT on the way has given one
socket two ports. It costs the switch what five strangers cost (docs/security.md), and every version
answers it.

Error contract: none; who does not answer is not among the answers.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from transport import BadPacket, Peer, PrivateKey, PublicKey, Suite
from transport.constants import COOKIE_REPLY_SIZE
from transport.handshake.admission import HANDSHAKE_BURST_PER_ADDRESS
from transport.handshake.cookie import MacStamper
from transport.handshake.messages import Initiation
from transport.wire.datagrams import InitPayload, decode_cookie_index_untrusted

KNOCKS: Final = int(HANDSHAKE_BURST_PER_ADDRESS) + 3  # inits at once: some of them are answered
ROUNDS: Final = 2
PATIENCE: Final = 1.0  # seconds of one round

Place = tuple[str, int]


async def knock(key: PublicKey, places: Sequence[Place]) -> dict[Place, bytes]:
    """The cookies that one socket is given at these places, which are of one IP version.

    A place is missing where nobody has shown that it knows `key`. Of places of one switch, asked
    within a moment, the cookies are the same if all have seen the socket at the same address.
    """
    found: dict[Place, bytes] = {}
    if not places:
        return found
    family = socket.AF_INET6 if ":" in places[0][0] else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
        for _ in range(ROUNDS):
            missing = [each for each in places if each not in found]
            with trio.move_on_after(PATIENCE):
                await _ask(sock, key, missing, found)
    return found


async def _ask(
    sock: trio.socket.SocketType,
    key: PublicKey,
    places: Sequence[Place],
    found: dict[Place, bytes],
) -> None:
    asked: dict[int, tuple[Place, MacStamper]] = {}
    identity = PrivateKey.generate()
    for place in places:
        for _ in range(KNOCKS):
            index, stamper = secrets.randbits(32) or 1, MacStamper(key.raw)
            init = Initiation(identity, Peer(key), Suite.CHACHAPOLY, index)
            body = init.init(InitPayload(time.time_ns(), receive_window=128))
            asked[index] = place, stamper
            with suppress(OSError):  # no route there
                await sock.sendto(stamper.stamp(body, trio.current_time()), place)
    while any(each not in found for each in places):
        datagram = await sock.recv(COOKIE_REPLY_SIZE + 1)
        now = trio.current_time()
        try:
            place, stamper = asked[decode_cookie_index_untrusted(datagram)]
            stamper.consume_reply_untrusted(datagram, now)
        except (BadPacket, KeyError):
            continue
        if (cookie := stamper.cookie(now)) is not None:
            found[place] = cookie
