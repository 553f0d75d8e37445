"""The older side of a conversation: runs under the older version, and speaks in lines of JSON.

The first line that it reads says who it is. Each other has the datagrams of a step of 10 ms, in
hex, and is answered with those that it sends in that step, and what it knows by then.
"""

import json
import sys

from transport.admission import Grant
from transport.identity import PrivateKey
from transport.noise import Suite
from transport.testing_cores import KnownPeers, Wire

from transport.handshake import Peer

STEP = 0.01  # seconds
LARGEST = 600  # bytes of a datagram: no looks for a path MTU

said = json.loads(sys.stdin.readline())
key = PrivateKey.from_raw(bytes.fromhex(said["key"]))
other = PrivateKey.from_raw(bytes.fromhex(said["other"])).public
wire = Wire(seed=2, largest=LARGEST)
authority = KnownPeers({other: Grant()}) if said["role"] == "switch" else None
host = wire.host(*said["here"], authority=authority, identity=key, suite=Suite[said["suite"]])
sent: list[bytes] = []
wire.filter = lambda datagram: sent.append(datagram.data) or []
there = tuple(said["there"])
if authority is None:
    host.demux.connect(Peer(other), there, wire.now, wire.now + 10.0)
greeted, read = False, []
for line in sys.stdin:
    for text in json.loads(line):
        host.inject(bytes.fromhex(text), there)
    wire.advance(STEP)
    if host.events and hasattr(host.events[0], "session"):
        read += [message.decode() for message in host.read()]
        if not greeted:
            host.send(b"from the older one")
            greeted = True
    known = {
        "events": [type(event).__name__ for event in host.events],
        "read": read,
        "drops": dict(host.demux.drops),
    }
    print(json.dumps([[data.hex() for data in sent], known]), flush=True)
    sent.clear()
