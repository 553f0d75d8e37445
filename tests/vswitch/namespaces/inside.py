"""What the tests call inside a sandbox: importable, as whatever an agent calls."""

import socket


def interfaces():
    return [name for _, name in socket.if_nameindex()]
