"""What a listener of the proxy tells about itself: a class that is JSON on the way, as those of
`management/status.py` are.
"""

from __future__ import annotations

from attrs import Factory, frozen


@frozen(kw_only=True)
class ProxyStatus:
    """One listener of `vswitch proxy`. `kind` is socks, forward or reverse; `up` is to the target;
    `open` and `total` are connections or UDP associations, `failed` those that came to nothing,
    `drops` datagrams, both by reason.
    """

    kind: str
    listen: str
    target: str | None = None
    open: int = 0
    total: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    failed: dict[str, int] = Factory(dict)
    drops: dict[str, int] = Factory(dict)
