"""Mistakes of this program that were met while frames passed, and what each has ended.

An exception that nobody foresaw ends the port, the observer or the feature that raised it, and
nothing else. It is logged once with its traceback and a reference, which stands in the event
`fault` and in `status` too, so that a report can name it. Bounded: the last `KEPT` are shown, and
one for each feature that has ended.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque

import attrs
import trio

from vswitch.errors import BadRecord
from vswitch.logs import event
from vswitch.switch.events import EventLog

log = logging.getLogger(__name__)

KEPT = 16  # faults that are shown in `status`, the latest; a bug repeats itself

# How a device fails in the ordinary course of things. Anything else is a mistake in a program.
_ORDINARY = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, BadRecord)


def is_ordinary(error: Exception) -> bool:
    """Whether a device may fail so; else it is logged with its traceback."""
    return isinstance(error, _ORDINARY)


@attrs.frozen
class Fault:
    """One of them."""

    at: float  # seconds, on the clock of the switch
    what: str  # that has ended: "port", or the name of a feature or observer
    port: str  # where; "" for everywhere
    error: str
    reference: str  # stands beside the traceback in the log


class Faults:
    """Those of one switch."""

    def __init__(self, events: EventLog) -> None:
        self.count = 0
        self._events = events
        self._latest: deque[Fault] = deque(maxlen=KEPT)
        self._ended: dict[str, Fault] = {}  # by feature

    @property
    def latest(self) -> tuple[Fault, ...]:
        """The last ones, oldest first."""
        return tuple(self._latest)

    @property
    def ended(self) -> tuple[Fault, ...]:
        """What each feature ended with that has, on the whole switch, in that order."""
        return tuple(self._ended.values())

    def add(self, what: str, port: str, error: Exception, now: float) -> Fault:
        """Note that this has raised, and has ended; the log is left to the caller."""
        fault = Fault(now, what, port, type(error).__name__, secrets.token_hex(4))
        self.count += 1
        self._latest.append(fault)
        facts = {"ended": what, "error": fault.error, "reference": fault.reference}
        self._events.add("fault", port, now=now, **facts)
        return fault

    def note(self, what: str, port: str, error: Exception, now: float) -> Fault:
        """The same, and log it."""
        fault = self.add(what, port, error, now)
        facts = {"ended": what, "port": port or None, "reference": fault.reference}
        event(log, "fault", logging.ERROR, error, reason=str(error), **facts)
        return fault

    def end(self, feature: str, error: Exception, now: float) -> None:
        """The same of a feature that has ended everywhere; `ended` has it from now on."""
        self._ended[feature] = self.note(feature, "", error, now)

    def mended(self, feature: str) -> bool:
        """It runs again: `ended` has it no more; whether it had."""
        return self._ended.pop(feature, None) is not None
