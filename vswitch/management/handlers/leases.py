"""Handlers of `vswitch leases`: the leases of the DHCP server listed, and ended."""

from __future__ import annotations

from vswitch.errors import ConfigError, Problem, VswitchError
from vswitch.frames.ethernet import parse_mac
from vswitch.management.handlers.common import Args, Controlled, Result, text_of
from vswitch.services.dhcp_server import DhcpServer


async def leases(controlled: Controlled, args: Args) -> Result:
    """`vswitch leases`."""
    server = _server(controlled)
    return {"leases": server.leases(), **server.status()}


async def lease_release(controlled: Controlled, args: Args) -> Result:
    """`vswitch leases release`: by MAC, or by address."""
    server, mac = _server(controlled), text_of(args, "mac") or ""
    for lease in server.leases():
        if lease["address"] == mac:
            mac = lease["mac"]
    try:
        parse_mac(mac)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return {"released": await server.release(mac)}


def _server(controlled: Controlled) -> DhcpServer:
    server = controlled.dhcp()
    if server is None:
        said = "this switch is no DHCP server: [dhcp] enabled = true makes it one"
        raise VswitchError(said).of(Problem.NO_DHCP)
    return server
