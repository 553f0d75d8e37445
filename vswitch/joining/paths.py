"""Which paths a member asks for its switch, and when: UDP where it passes, HTTPS where it does not.

UDP is asked first. After `UDP_PATIENCE` without an answer HTTPS is opened beside it, and the first
that answers carries the session. While that is HTTPS, UDP is asked again every `ASK_INTERVAL`, and
an answer, which is a whole handshake, moves the session back. A path that falls silent is left by
asking both. Where UDP answers and does not last, it is asked less and less, so that a session does
not go to and fro without end.

Pure; `now` in seconds. `reach.py` does what is said here.
"""

from __future__ import annotations

from math import inf
from typing import Final

WISHES: Final = ("auto", "udp", "https")

UDP_PATIENCE: Final = 2.0  # seconds of one attempt that UDP has for itself
ASK_INTERVAL: Final = 10.0  # between two questions by UDP, on HTTPS
ASK_FOR: Final = 2.0  # seconds that one of them is repeated
ASK_LIMIT: Final = 160.0  # between two questions where UDP does not last
# A session that has been on UDP for this long has found a good path. Silence is found after three
# seconds, so that of a path which was cut at once is less.
LASTS: Final = 5.0


class PathPolicy:
    """What one member wishes for, and what it has learnt; through all its sessions."""

    def __init__(self, wish: str = "auto", *, https: bool) -> None:
        """`wish` is one of `WISHES`; `https`: an address for that is known."""
        self.takes_https = https and wish != "udp"
        self.takes_udp = wish != "https"
        self._interval = ASK_INTERVAL
        self._udp_since: float | None = None  # while the session is on UDP, after HTTPS
        self._ask_at = inf

    def https_after(self) -> float:
        """Seconds from the start of an attempt to that of its HTTPS path; infinite for never."""
        if not self.takes_https:
            return inf
        return UDP_PATIENCE if self.takes_udp else 0.0

    @property
    def ask_at(self) -> float:
        """When UDP is to be asked whether the session may go there; infinite for never."""
        return self._ask_at

    def on_https(self, now: float) -> None:
        """The session is, or still is, on an HTTPS path."""
        if self._udp_since is not None:
            if now - self._udp_since < LASTS:
                self._interval = min(ASK_LIMIT, 2 * self._interval)
            else:
                self._interval = ASK_INTERVAL
            self._udp_since = None
            self._ask_at = inf
        if self._ask_at == inf and self.takes_udp:
            self._ask_at = now + self._interval

    def on_udp(self, now: float) -> None:
        """The session is, or still is, on UDP."""
        if self._ask_at != inf:
            self._udp_since = now
            self._ask_at = inf

    def asked(self, now: float) -> None:
        """UDP has just been asked."""
        self._ask_at = now + self._interval
