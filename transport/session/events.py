"""What a session tells its owner besides messages: rare, for logs and for the end."""

from __future__ import annotations

from attrs import frozen

from transport.wire.trains import Address


@frozen
class PathChanged:
    """The peer proved a new address and everything goes there now."""

    address: Address


@frozen
class Silent:
    """The peer, to which we have connected, owes an answer for seconds; once a second."""


@frozen
class Rekeyed:
    """New keys are in use."""


@frozen
class Ended:
    """The session is over; nothing more comes and nothing more leaves."""

    code: int  # a CloseCode, or a number of the program above
    reason: str
    by_peer: bool


Event = PathChanged | Silent | Rekeyed | Ended
