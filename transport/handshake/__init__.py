"""Becoming a peer: both sides of the handshake, admission under load, stateless reset."""
