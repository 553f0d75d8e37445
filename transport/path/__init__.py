"""Where the peer is, how large datagrams on the way to it may be, and whether it is there."""
