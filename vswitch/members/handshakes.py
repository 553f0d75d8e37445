"""What `--pq` says about handshakes, and what of that this host can do.

Error contract: `ConfigError` where post-quantum handshakes are required and cannot be had here.
"""

from __future__ import annotations

import logging

from transport import PostQuantum, post_quantum_missing
from vswitch.errors import ConfigError
from vswitch.logs import event

log = logging.getLogger(__name__)


def post_quantum_of(wish: str) -> PostQuantum:
    """What is asked of the transport for a wish of `--pq`. That nothing can be had is logged."""
    wanted = PostQuantum(wish)
    if wanted is PostQuantum.OFF or (missing := post_quantum_missing()) is None:
        return wanted
    if wanted is PostQuantum.REQUIRE:
        raise ConfigError(f"--pq require: {missing}")
    event(log, "no-post-quantum", logging.WARNING, reason=missing)
    return PostQuantum.OFF
