"""Sockets, clocks and tasks: the UDP socket, its sessions, and their Trio handles."""
