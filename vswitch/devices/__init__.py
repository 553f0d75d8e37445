"""What moves frames between a port and this host's kernel: TAP, bridge, and their pumps."""
