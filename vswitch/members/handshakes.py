"""What `--pq` says about handshakes: which of that this host can do is decided by the transport.

Error contract: `ConfigError` where post-quantum handshakes are required and cannot be had here.
"""

from __future__ import annotations

import logging

from transport import PostQuantum, TransportError, post_quantum_missing, usable_post_quantum
from vswitch.errors import ConfigError
from vswitch.logs import event

__all__ = ["PostQuantum", "post_quantum_of"]

log = logging.getLogger(__name__)


def post_quantum_of(wish: str) -> PostQuantum:
    """What is asked of the transport for a wish of `--pq`. That nothing can be had is logged."""
    wanted = PostQuantum(wish)
    try:
        had = usable_post_quantum(wanted)
    except TransportError:
        raise ConfigError(f"--pq {wish}: {post_quantum_missing()}") from None
    if had is not wanted:
        event(log, "no-post-quantum", logging.WARNING, reason=post_quantum_missing())
    return had
