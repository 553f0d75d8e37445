"""Handshakes one after another, each of a client that knows nothing of the ones before.

    python -m benchmarks.faults.newcomer KEY_FILE SWITCH_KEY_IN_HEX ADDRESS PORT SECONDS

Prints how many seconds each took, as JSON; one that had no answer counts as long as was waited for
it. The program itself is up before the first: this is the time of the network and of the switch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from transport import HandshakeTimeout, Peer, PublicKey, load_key_file, open_endpoint, open_udp

PATIENCE = 10.0  # s for one handshake
PAUSE = 0.3  # s: the session before is over, and its copies have arrived


async def newcomers(path: str, key: str, address: str, port: int, seconds: float) -> list[float]:
    """Each has an endpoint of its own, so it has no cookie."""
    identity, peer = load_key_file(Path(path)), Peer(PublicKey(bytes.fromhex(key)))
    took, until = [], trio.current_time() + seconds
    while trio.current_time() < until:
        async with open_endpoint(open_udp("0.0.0.0"), identity) as endpoint:
            began = trio.current_time()
            try:
                await endpoint.connect(peer, [(address, port)], patience=PATIENCE)
            except HandshakeTimeout:
                pass
            took.append(round(trio.current_time() - began, 4))
        await trio.sleep(PAUSE)
    return took


if __name__ == "__main__":
    path, key, address, port, seconds = sys.argv[1:]
    print(json.dumps(trio.run(newcomers, path, key, address, int(port), float(seconds))))
