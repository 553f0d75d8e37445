"""Keys, the Noise handshake pattern, sealing and opening, the replay window."""
