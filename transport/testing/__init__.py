"""A seeded network in memory for endpoints, and pairs of cores without one."""

from transport.emulation import Direction, PathSpec
from transport.testing.network import Fate, Link, MemorySocket, Network, open_network

__all__ = ["Direction", "Fate", "Link", "MemorySocket", "Network", "PathSpec", "open_network"]
