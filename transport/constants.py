"""Every number of the transport, once, with its unit and its reason.

Sizes are bytes, times are seconds, unless the name says otherwise. The wire's layouts are in
`wire/datagrams.py`; what of this an operator may change is in `endpoint.Limits`.
"""

from __future__ import annotations

from typing import Final

# --- Protocol identity -----------------------------------------------------------------------

VERSION: Final = 1
PROLOGUE: Final = b"vswitch/1"  # mixed into the handshake hash: another protocol fails at once

# --- Datagram sizes --------------------------------------------------------------------------

INIT_SIZE: Final = 232
RESPONSE_SIZE: Final = 140  # smaller than what causes it, so a spoofed source gains nothing
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

# --- KCP (notes on each in lanes/kcp.py) ----------------------------------------------------------

SHUT_INTERVAL: Final = 0.5  # seconds between questions to a peer whose window is shut
# A lone small message is acknowledged with the answer to it, if one leaves within this time, well
# below congestion/recovery.py's shortest timeout; more than so much data at once.
ACK_DELAY: Final = 0.005
STREAM_ACK_DELAY: Final = 0.001  # while more than that comes: the sender waits to hear of room
ACK_BYTES: Final = 32768
SEND_WINDOW: Final = 16_384  # segments; more than congestion/delay.py's bytes in full ones
RECEIVE_WINDOW: Final = 16_384  # segments; at least the peer's send window, so it never closes
# In KCP's own queues of one session. Segments may be as large as units, so a window in segments
# does not bound their bytes; more than a sender has in flight at most.
RECEIVE_BYTES: Final = 8 * 1024 * 1024
MAX_FRAGMENTS: Final = 127  # of one message; KCP's `frg` and its send() refuse 128
# What a session may hold undelivered before it stops taking messages out of KCP: then the
# peer's window closes, which is the back-pressure of a reliable transport.
INBOX_BYTES: Final = 4 * 1024 * 1024
DATAGRAM_INBOX_BYTES: Final = 4 * 1024 * 1024  # of the datagram lane: more than a turn brings
DATAGRAM_OUTBOX_BYTES: Final = 4 * 1024 * 1024  # the same way out, in one turn: then all leaves
MESSAGE_COST: Final = 64  # what a message counts besides its content, or empty ones were free

# --- Handshake -------------------------------------------------------------------------------

HANDSHAKE_RETRY_FIRST: Final = 0.5
# A path that heals is found within this time; 232 bytes each. Across attempts the caller backs off.
HANDSHAKE_RETRY_CAP: Final = 1.5
HANDSHAKES_KEPT: Final = 4  # inits whose answers are taken: round trips up to 4 s
CONNECT_STAGGER: Final = 0.2  # between the first inits to several addresses of one peer
CONNECT_ADDRESSES: Final = 8  # of one peer; a name server may say more
REKEY_PATIENCE: Final = 24.0  # for one rekey; then the session asks again
# How often the first, second and later inits without an answer are sent. A responder in a flood
# looks at a share of them: of three in ten, all thirteen of two seconds are lost once in a hundred
# times. One with a cookie costs the responder a key exchange, and is seldom dropped.
INIT_COPIES: Final = (1, 4, 8)
PROVEN_COPIES: Final = (1, 2, 4)
# Between copies of an init: more than the time in which network cards and kernels join datagrams,
# so that each has its own chance; and what HANDSHAKES_PER_ADDRESS allows.
COPY_INTERVAL: Final = 0.05
HANDSHAKE_RETRY_JITTER: Final = 0.3  # ± share, so that a crowd does not come back in step
HALF_OPEN_LIFETIME: Final = 5.0  # between response and the client's first sealed datagram
CONFIRM_INTERVAL: Final = 0.1  # between pings that confirm new keys, while data is sent with them
HALF_OPEN_PER_PEER: Final = 8  # more than an initiator sends inits in that time
HALF_OPEN_TOTAL: Final = 1024  # all members may come at once; 3 kB each
CONFIRMED_TIMESTAMPS: Final = 8192  # remembered peers, least recently confirmed forgotten first

HANDSHAKES_PER_ADDRESS: Final = 20.0  # a second, per IPv4 address or IPv6 /64
HANDSHAKE_BURST_PER_ADDRESS: Final = 5.0
# The same for who has shown with mac2 that it reads there: all members of one site come from one
# address and come back together, twice each if the switch has lost their sessions.
PROVEN_HANDSHAKES_PER_ADDRESS: Final = 200.0
PROVEN_HANDSHAKE_BURST: Final = 500.0
ADDRESS_TABLE: Final = 8192  # rate-limiter entries, least recently used forgotten first
# Beyond this many handshakes in a second all must prove their address (mac2): one costs about
# 0.4 ms, so 100 a second are 4 % of a core.
LOAD_THRESHOLD: Final = 100.0
COOKIE_REPLIES_PER_ADDRESS: Final = 200.0  # 13 kB/s; an honest member behind it needs one
# A cookie costs about as much as looking at the init that it answers (10 µs), and in a flood of
# forged inits somebody honest gets in with the share of them that is answered.
COOKIE_REPLIES_TOTAL: Final = 10_000.0

# --- Stateless reset -------------------------------------------------------------------------

RESETS_TOTAL: Final = 50.0  # a second: all that a flood of forged datagrams can make us send
RESETS_PER_ADDRESS: Final = 1.0  # a second, per host and port; one is enough
RESET_BURST: Final = 1.0  # of one address: a member that has lost its switch sends many datagrams
# A handshake per reset and not more often: a token that somebody has learned is good for nothing.
RESET_INTERVAL: Final = 10.0

# --- Keys ------------------------------------------------------------------------------------

REKEY_AFTER: Final = 120.0
REKEY_JITTER: Final = 10.0
REJECT_AFTER: Final = 300.0  # a key this old neither seals nor opens
REKEY_AFTER_UNITS: Final = 1 << 22
REJECT_AFTER_UNITS: Final = 1 << 23  # RFC 9001 section 6.6: AES-GCM confidentiality limit
REKEY_AFTER_FAILURES: Final = 1 << 20  # openings that failed; far below the integrity limits
PREVIOUS_KEY_LIFETIME: Final = 30.0  # datagrams sealed before a rekey may still be under way

# --- Liveness --------------------------------------------------------------------------------

KEEPALIVE: Final = 15.0  # NAT bindings for UDP live 30 s or more in practice
KEEPALIVE_JITTER: Final = 0.2  # ± share
SUSPECT_AFTER: Final = 3.0  # something awaited an answer this long: probe
PROBE_INTERVAL: Final = 1.0  # between probes of a suspect peer
RECONNECT_AFTER: Final = 5.0  # awaited this long: the client also tries a new handshake
DEAD_AFTER: Final = 60.0  # nothing authentic for so long: the session ends
# Towards a silent peer only one datagram each so often: retransmissions into the void cost the
# path up to 370 kB/s otherwise (measured), and one is enough to notice that it heals.
SUSPECT_SEND_INTERVAL: Final = 0.2

# --- Outages -----------------------------------------------------------------------------

# Between pings while acknowledgements are overdue: a quarter of what a healed path may stay unused.
STALL_PROBE: Final = 0.25

# --- Paths -----------------------------------------------------------------------------------

PATH_TIMEOUT: Final = 1.0  # for a challenge's answer, at least
PATH_CHANGE_INTERVAL: Final = 1.0  # at most one move a second
AMPLIFICATION: Final = 3  # bytes to an unproven address per byte from it (RFC 9000 section 8)

MTU_WATCH_INTERVAL: Final = 0.1  # between two looks whether data gets through at all

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

# --- Sockets ---------------------------------------------------------------------------------

RECEIVE_BATCH: Final = 128  # reads in one turn: three large units, then other tasks have theirs
SOCKET_BUFFER: Final = 8 * 1024 * 1024  # asked for; the kernel may grant less
