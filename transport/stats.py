"""What the transport counts: one name for every way in which a datagram can end unused.

Counters are plain `collections.Counter`s in the cores; what leaves the package are the frozen
snapshots of this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

DROP_REASONS: Final[Mapping[str, str]] = {
    # Datagrams that never came to be of a session
    "malformed": "shorter or longer than its type allows, or a reserved field is set",
    "unknown_type": "a type that this version does not know",
    "unknown_index": "no session or handshake has this receiver index",
    "bad_version": "another protocol version",
    "bad_mac1": "the sender does not know our public key, or the datagram was damaged",
    "bad_mac2": "no fresh proof of address while under load; answered with a cookie",
    "rate_limited": "too many handshakes from this address; answered with a cookie",
    "proven_limited": "too many handshakes with a proof of address, and of this address the most",
    "repeated_init": "an init that was answered already; the first few get the same answer again",
    "slice_unproven": "a slice of an init without a fresh proof of address; answered with a cookie",
    "hybrid_off": "an init with ML-KEM-768, which this side does not take",
    "refusal_limited": "of a key that was told no less than a second ago",
    "half_open_full": "too many unconfirmed handshakes, in all or of one peer",
    "bad_handshake": "the Noise handshake does not open",
    "low_order_point": "a public key that would give away the shared secret",
    "unknown_peer": "an unknown key without a valid credential; met with silence",
    "stale_timestamp": "an init no newer than the last confirmed; answered with a cookie",
    "cookie_limited": "a cookie reply was due but the limit for them was reached",
    "memory": "sessions ended because all together held too much, and these most",
    "core_failed": "sessions that something of ours failed in, which ended them; the log has more",
    "sessions_full": "confirmed when the table of sessions had become full",
    "key_limited": "confirmed sooner than one key may begin so many new sessions",
    "unexpected": "a handshake answer or a reset that nobody waits for",
    "reset_limited": "a stateless reset sooner after the last one than is believed",
    # Datagrams of a session
    "replay": "a counter seen before or too old",
    "counter_limit": "a counter that is so high that no sender may use it",
    "bad_seal": "does not open under the session's key",
    "expired_key": "sealed under a key that is too old",
    "not_kcp": "opened, but its content is no KCP datagram",
    "cpu_share": "waiting for their turn, when too much of their session waited already",
    "repeated": "segments of a reliable lane that had come already; copies, where a path loses",
    "beyond_window": "segments of a reliable lane, more than may wait behind a gap or unread",
    "bad_parity": "opened, but no parity of anything that has come",
    "bad_control": "opened, but its content is no list of control items",
    "control_limited": "more control datagrams than a session may send",
    "incomplete": "slices of a sealed unit that others of it never followed",
    # (users know the datagram lane's three by the name that it had first)
    "loose_unasked": "of the datagram lane, which was not agreed, or not yet",
    "loose_full": "of the datagram lane, when too much of it had not been read",
    # Datagrams that could not leave
    "loose_silent": "units of the datagram lane while the peer had fallen silent",
    "socket_full": "the kernel's send buffer was full; KCP repeats what mattered",
    "unreachable": "the kernel refused to send: no route, no permission",
    "pipe_closed": "for a pipe that is closed; sent again on the next path, if that mattered",
    "no_filter": "times that the kernel would not filter a flood of inits for us",
    "too_big": "larger than the local interface takes; sent again in smaller ones",
}


@frozen
class SessionStatistics:
    """One session at one moment."""

    suite: str
    rtt: float | None  # seconds, of pings, or else of acknowledgements, which may be delayed
    sent_datagrams: int
    sent_bytes: int  # UDP payload
    received_datagrams: int
    received_bytes: int  # UDP payload
    in_flight: int  # bytes of messages and KCP's headers that are not acknowledged
    window: int  # bytes that may be in flight
    datagram_size: int  # bytes of UDP payload that the path to the peer takes, as far as is known
    rekeys: int
    path_changes: int
    age: float  # seconds since the session was confirmed
    idle: float  # seconds since the last authentic datagram
    drops: Mapping[str, int]
    datagram_sent: int = 0  # units of the datagram lane
    datagram_received: int = 0  # the same
    datagram_lost: int = 0  # units of ours, of any lane, while reports came in
    measuring: bool = False  # a ping is not answered yet
    hybrid: bool = False  # the handshake of its keys had ML-KEM-768 in it


@frozen
class EndpointStatistics:
    """One endpoint at one moment."""

    sessions: int
    half_open: int
    received_datagrams: int
    sent_datagrams: int
    drops: Mapping[str, int]
