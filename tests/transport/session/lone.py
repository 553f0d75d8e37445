"""A session whose peer is the test, and which has nothing to say yet: no ping, no search."""

from transport.constants import KCP_MTU, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.cipher import Opener, Sealer
from transport.crypto.identity import PrivateKey
from transport.path.mtu import Probing
from transport.session.keyring import KeyPair
from transport.session.session import Session
from transport.wire.datagrams import Suite

HOME = ("192.0.2.1", 1000)
SUITE, KEY = Suite.CHACHAPOLY, bytes(32)
HASH = bytes(32)  # of the handshake


def lone_session(now, *, initiator=False):
    pair = KeyPair(SUITE, 1, Sealer(SUITE, KEY, 2), Opener(SUITE, KEY), now, HASH)
    session = Session(
        initiator=initiator,
        peer=PrivateKey.from_raw(KEY).public,
        association=1,
        pair=pair,
        kcp_mtu=KCP_MTU,
        max_slices=MAX_SLICES,
        receive_window=RECEIVE_WINDOW,
        address=HOME,
        now=now,
        random_bytes=lambda size: b"\0\0\0\x80" if size == 4 else b"c" * size,  # no jitter
    )
    session._exchange.clear()
    session._probing = Probing(HOME, now, largest_unit=KCP_MTU, max_slices=MAX_SLICES)
    return session
