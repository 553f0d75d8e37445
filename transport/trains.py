"""A train: datagrams of one sender laid end to end, as kernels join and cut them.

All are of one size but the last, which may be shorter. The receiving side of the transport moves
trains, because a train of forty datagrams costs hardly more Python steps than one datagram.
"""

from __future__ import annotations

from transport.paths import Address

__all__ = ["Train"]

Train = tuple[bytes, Address, int]
"""The bytes, the sender, and the size of each datagram."""
