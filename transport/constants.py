"""Numbers of the transport: sizes on the wire, and the times and bounds of lanes and sessions.

Each number stands in one place, with its unit and its reason: here what several rooms share, or
what lanes, sessions and endpoints have to agree on; at the head of its file what concerns that file
alone (handshakes, liveness, paths, congestion control). Sizes are bytes, times are seconds, unless
the name says otherwise. The wire's layouts are in `wire/datagrams.py`.
"""

from __future__ import annotations

from typing import Final

# --- Protocol identity -----------------------------------------------------------------------

VERSION: Final = 1
PROLOGUE: Final = b"vswitch/1"  # mixed into the handshake hash: another protocol fails at once

# --- Datagram sizes --------------------------------------------------------------------------

INIT_SIZE: Final = 232
RESPONSE_SIZE: Final = 140  # smaller than what causes it, so a spoofed source gains nothing
# The same of a hybrid handshake: with an encapsulation key of ML-KEM-768, and a ciphertext and its
# tag. The tag of the key takes the place of padding, so that 1,444 bytes of IPv4 are enough.
HYBRID_INIT_SIZE: Final = INIT_SIZE + 1184
HYBRID_RESPONSE_SIZE: Final = RESPONSE_SIZE + 1088 + 16
# One slice of either, where they are too large for a path: every IPv4 host takes packets of 576
# bytes (RFC 791).
HANDSHAKE_SLICE_SIZE: Final = 548
COOKIE_REPLY_SIZE: Final = 64
RESET_SIZE: Final = 24  # smaller than any sealed datagram
RESET_TOKEN_SIZE: Final = 16
MACS_SIZE: Final = 32  # mac1 and mac2, at the end of an init and of a response
DATA_HEADER_SIZE: Final = 16
TAG_SIZE: Final = 16
SEALED_OVERHEAD: Final = DATA_HEADER_SIZE + TAG_SIZE

KCP_HEADER_SIZE: Final = 24
# Bytes of a sealed unit that one datagram carries. How many do on a path is path/mtu.py's; this is
# 1,432 bytes of UDP payload, and what a peer's number of slices is reckoned in.
SLICE_SIZE: Final = 1432 - DATA_HEADER_SIZE
# The largest unit, 44 such datagrams; set once in a session. Larger ones amortise more work per
# byte (sealing, KCP, calls into the kernel), and lose more with one lost datagram: `lanes/units.py`
# says what is used when.
KCP_MTU: Final = 44 * SLICE_SIZE - TAG_SIZE
# Of one sealed unit: the largest in the smallest datagrams that path/mtu.py goes down to has 118.
MAX_SLICES: Final = 128
# Of one session, waiting for slices. Jitter mixes the slices of all units of a burst, and a
# table that is too small for one completes none of them, again and again.
PARTIAL_UNITS: Final = 256
PARTIAL_BYTES: Final = 4 * 1024 * 1024  # of one session, in all its partial units
MIN_KCP_MTU: Final = 536  # less would spend more on headers than it carries
MAX_DATAGRAM: Final = 65_535

# --- KCP (see lanes/kcp.py) ---------------------------------------------------------------------

SHUT_INTERVAL: Final = 0.5  # seconds between questions to a peer whose window is shut
# A lone small message is acknowledged with the answer to it, if one leaves within this time, well
# below congestion/recovery.py's shortest timeout, and below what congestion/delay.py takes for a
# queue (0.7 x MAX_TARGET), a late timer included; more than so much data at once.
ACK_DELAY: Final = 0.005
STREAM_ACK_DELAY: Final = 0.001  # while more than that comes: the sender waits to hear of room
ACK_BYTES: Final = 32768
SEND_WINDOW: Final = 16_384  # segments; more than congestion/delay.py's bytes in full ones
RECEIVE_WINDOW: Final = 16_384  # segments; at least the peer's send window, so it never closes
# On one lane, behind a gap or unread. Segments may be as large as units, so a window in segments
# does not bound their bytes; more than a sender has in flight at most.
RECEIVE_BYTES: Final = 8 * 1024 * 1024
MAX_FRAGMENTS: Final = 127  # of one message; KCP's `frg` and its send() refuse 128
# What a session may hold undelivered before it stops taking messages out of KCP: then the
# peer's window closes, which is the back-pressure of a reliable transport.
INBOX_BYTES: Final = 4 * 1024 * 1024
DATAGRAM_INBOX_BYTES: Final = 4 * 1024 * 1024  # of the datagram lane: more than a turn brings
DATAGRAM_OUTBOX_BYTES: Final = 4 * 1024 * 1024  # the same way out, in one turn: then all leaves
MESSAGE_COST: Final = 64  # what a message counts besides its content, or empty ones were free

# --- Connecting ------------------------------------------------------------------------------

CONNECT_STAGGER: Final = 0.2  # between the first inits to several addresses of one peer
CONNECT_ADDRESSES: Final = 8  # of one peer; a name server may say more
CONFIRM_INTERVAL: Final = 0.1  # between pings that confirm new keys, while data is sent with them

# --- Keys ------------------------------------------------------------------------------------

REKEY_AFTER: Final = 120.0
REKEY_JITTER: Final = 10.0
REJECT_AFTER: Final = 300.0  # a key this old neither seals nor opens
REKEY_AFTER_UNITS: Final = 1 << 22
REJECT_AFTER_UNITS: Final = 1 << 23  # RFC 9001 section 6.6: AES-GCM confidentiality limit
REKEY_AFTER_FAILURES: Final = 1 << 20  # openings that failed; far below the integrity limits
PREVIOUS_KEY_LIFETIME: Final = 30.0  # datagrams sealed before a rekey may still be under way

# --- Peers and paths in doubt ----------------------------------------------------------------

# Towards a silent peer only one datagram each so often: retransmissions into the void cost the
# path up to 370 kB/s otherwise (measured), and one is enough to notice that it heals.
SUSPECT_SEND_INTERVAL: Final = 0.2
# Between pings while acknowledgements are overdue: a quarter of what a healed path may stay unused.
STALL_PROBE: Final = 0.25
AMPLIFICATION: Final = 3  # bytes to an unproven address per byte from it (RFC 9000 section 8)

# --- Closing ---------------------------------------------------------------------------------

CLOSE_REPEATS: Final = (0.0, 0.05, 0.15)  # seconds after the first; a CLOSE is not reliable
TOMBSTONE: Final = 3.0  # a closed session answers late datagrams with CLOSE for so long
MAX_CLOSE_REASON: Final = 200  # bytes of UTF-8

# --- Capacity --------------------------------------------------------------------------------

MAX_SESSIONS: Final = 1024
MEMORY_LIMIT: Final = 256 * 1024 * 1024  # bytes that the sessions of an endpoint may hold together
CONTROL_PER_SECOND: Final = 50.0  # control datagrams accepted from one session
MAX_CONTROL_ITEMS: Final = 16  # in one control datagram
ACCEPT_BACKLOG: Final = 256  # confirmed sessions that wait for serve()

# --- Pipes (see endpoint/pipes.py) --------------------------------------------------------------

# Bytes that wait in a pipe, from which on it gets no more: 13 ms of 20 Mbit/s, and on a fast path
# what leaves in `PIPE_TIME` seconds, but no more than `PIPE_MOST`. What has to wait waits in the
# lanes, where a lone packet passes it.
PIPE_BACKLOG: Final = 32 * 1024
PIPE_TIME: Final = 0.005
PIPE_MOST: Final = 256 * 1024
PIPE_HOST: Final = "pipe "  # begins the host of an address, where others have that of IP
PIPE_UNUSED: Final = 15.0  # seconds; a pipe that no session has used for one or two of them goes

# --- Sockets ---------------------------------------------------------------------------------

RECEIVE_BATCH: Final = 128  # reads in one turn: three large units, then other tasks have theirs
SOCKET_BUFFER: Final = 8 * 1024 * 1024  # asked for; the kernel may grant less
