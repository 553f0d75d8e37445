"""An address by DHCP inside a sandbox, with the client that the machine has.

dhclient or udhcpc (BusyBox) asks, and goes on in the background to renew; it ends with the sandbox.
Neither is given the machine's own configuration, script or lease file. What it learns, a script of
ours sets: address, default routes, and name servers in the sandbox's /etc/resolv.conf.

Error contract: `VswitchError` where there is no client; `TimedOut` where no server answers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

from vswitch.errors import TimedOut, VswitchError
from vswitch.namespaces.sandbox import Sandbox, until_it_ends

PATIENCE: Final = 30  # seconds; a client asks about five times
PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

# dhclient tells in $reason and $new_*, udhcpc in $1 and $ip, $mask, $router, $dns.
SCRIPT: Final = """#!/bin/sh
export PATH="$PATH:/usr/sbin:/sbin"
case "${reason:-$1}" in
BOUND|RENEW|REBIND|REBOOT|bound|renew) ;;
EXPIRE|FAIL|RELEASE|STOP|deconfig) ip -4 addr flush dev "$interface"; exit 0 ;;
*) ip link set "$interface" up; exit 0 ;;
esac
address=${new_ip_address:-$ip}
prefix=${mask:-0}
if [ -n "$new_subnet_mask" ]; then
    prefix=0
    for part in $(echo "$new_subnet_mask" | tr . ' '); do
        while [ "$part" -gt 0 ]; do prefix=$((prefix + part % 2)); part=$((part / 2)); done
    done
fi
if ! ip -4 -o addr show dev "$interface" | grep -qF " $address/$prefix "; then
    ip -4 addr flush dev "$interface"
    ip -4 addr add "$address/$prefix" broadcast + dev "$interface"
fi
for gateway in ${new_routers:-$router}; do
    ip -4 route replace default via "$gateway" dev "$interface"
    break
done
servers=${new_domain_name_servers:-$dns}
if [ -n "$servers" ]; then
    {
        [ -z "${new_domain_name:-$domain}" ] || echo "search ${new_domain_name:-$domain}"
        for server in $servers; do echo "nameserver $server"; done
    } > /etc/resolv.conf
fi
"""
CONFIG: Final = f"""timeout {PATIENCE};
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name;
"""


async def ask_for_lease(sandbox: Sandbox, dev: str) -> None:
    """Have an address of the LAN's own DHCP server at `dev`, and keep it."""
    directory = sandbox.directory
    script, config = directory / "dhcp-script", directory / "dhclient.conf"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    config.write_text(CONFIG)
    if dhclient := shutil.which("dhclient", path=PATH):
        argv = [
            *(dhclient, "-4", "-1", "-q", "-cf", str(config), "-sf", str(script)),
            *("-lf", str(directory / "leases"), "-pf", str(directory / "dhclient.pid"), dev),
        ]
    elif udhcpc := shutil.which("udhcpc", path=PATH):
        argv = [udhcpc, "-n", "-t", "6", "-i", dev, "-s", str(script)]
    else:
        raise VswitchError("--dhcp needs a DHCP client, and there is none: install dhclient")
    said = directory / "dhcp.log"
    with said.open("wb") as output:
        child = sandbox.start(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        status = await until_it_ends(child)
    finally:
        child.kill()
        child.wait()
    if status != 0:
        lines = said.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"exit status {status}")
        raise TimedOut(f"no address by DHCP from the LAN: {argv[0]}: {last}")
