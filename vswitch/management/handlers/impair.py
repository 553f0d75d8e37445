"""Handler of `vswitch impair`: begin, end, or only list."""

from __future__ import annotations

import math

from vswitch.features.impair import Impairments, orders_untrusted, said
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Result,
    port_of,
)


async def impair(controlled: Controlled, args: Args) -> Result:
    """`vswitch impair`: begin, end, or only list; of one port with `show`."""
    managed = controlled.managed
    impairments = managed.feature(Impairments)
    name, off, show = args.get("port"), args.get("off") is True, args.get("show") is True
    port = None if name is None else port_of(managed, str(name))
    if port is not None and not show:
        if off:
            impairments.end(port)
        else:
            impairments.begin(port, orders_untrusted(args))
    elif off:
        for each in list(impairments.active.values()):
            impairments.end(each.port)
    return {
        "impaired": [
            {
                "port": number,
                "name": each.port.name,
                "orders": said(each.orders),
                "left_s": None if math.isinf(each.until) else each.until - each.port.now(),
                "held": each.port.held_frames,
            }
            for number, each in sorted(impairments.active.items())
            if not show or port in (None, each.port)
        ]
    }
