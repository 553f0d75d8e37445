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
    """`vswitch impair`: begin, end, or only list."""
    managed = controlled.managed
    impairments = managed.feature(Impairments)
    name = args.get("port")
    if name is not None:
        port = port_of(managed, str(name))
        if args.get("off") is True:
            impairments.end(port)
        else:
            impairments.begin(port, orders_untrusted(args))
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
        ]
    }
