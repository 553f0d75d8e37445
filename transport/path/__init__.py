"""The path to the peer: its address and how that moves, its MTU, and whether the peer lives."""
