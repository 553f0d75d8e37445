"""How a loop is noticed: a probe that comes back, and stations that move to and fro.

A loop is made outside the switch: somebody bridges two members, or a member with a wire that is
also plugged in elsewhere. What is flooded then comes back, for ever.

 probe   a frame of the switch's own to a group address that every bridge floods, with the id of the
         switch and a token for the port and the round. A token that comes in says which port it
         left on; nobody else can know it, so nobody can have another's port blocked.
 moves   four stations or more that have each gone between the same two ports three times within
         five seconds. One station that somebody imitates is not enough.

| bytes | of a probe, 60 in all |
|---|---|
| 0–11 | 03-76-73-77-00-01, and 02-76-73-77-00-01 as the source |
| 12–13 | 0x88B5, an EtherType for local use (IEEE 802) |
| 14–21 | "vswloop", 1 |
| 22–37 | id of the switch |
| 38–53 | token |

`Penalties` says for how long a port is blocked. Pure; nothing here raises for any bytes.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from vswitch.core.packet import frame_at

__all__ = [
    "MIN_MOVES",
    "PROBE_DESTINATION",
    "TOKEN_SIZE",
    "Moves",
    "Penalties",
    "Probes",
    "token_untrusted",
]

PROBE_DESTINATION = bytes.fromhex("037673770001")
TOKEN_SIZE = 16  # bytes, of the id of a switch too
_HEAD = PROBE_DESTINATION + bytes.fromhex("027673770001") + b"\x88\xb5vswloop\x01"
_SIZE = 60  # bytes: the smallest frame of Ethernet
_TOKENS = 4096  # that may still come back
_TOKEN_LIFE = 10.0  # seconds

MOVES_WINDOW = 5.0  # seconds
MIN_STATIONS = 4
MIN_MOVES = 3  # of each
_PAIRS = 256  # of ports that are watched at a time
_STATIONS = 64  # of a pair

FIRST_PENALTY = 10.0  # seconds
LAST_PENALTY = 600.0
FORGIVEN = 600.0  # seconds after a port was let back in which it was not blocked again
_NAMES = 4096


def token_untrusted(record: bytes, switch: bytes) -> bytes | None:
    """The token of a record that is a probe of this switch."""
    at = frame_at(record)
    if record[at : at + 38] != _HEAD + switch:
        return None
    return record[at + 38 : at + 38 + TOKEN_SIZE]


@attrs.define(eq=False)
class Probes:
    """What was sent, and on which port."""

    switch: bytes  # random
    _sent: OrderedDict[bytes, tuple[int, float]] = attrs.field(factory=OrderedDict, init=False)

    def make(self, port: int, token: bytes, now: float) -> bytes:
        """The probe for a port: a frame."""
        while self._sent:
            oldest = next(iter(self._sent))
            if len(self._sent) < _TOKENS and now - self._sent[oldest][1] < _TOKEN_LIFE:
                break
            del self._sent[oldest]
        self._sent[token] = port, now
        return (_HEAD + self.switch + token).ljust(_SIZE, b"\0")

    def sender(self, token: bytes, now: float) -> int | None:
        """The port that a token left on, lately."""
        port, at = self._sent.get(token, (None, 0.0))
        return port if now - at < _TOKEN_LIFE else None

    def forget(self, port: int) -> None:
        """Another port may get this number."""
        for token in [token for token, (sender, _) in self._sent.items() if sender == port]:
            del self._sent[token]


@attrs.define(eq=False)
class Moves:
    """Which stations have moved between which ports within the last seconds."""

    _since: float = attrs.field(default=0.0, init=False)
    _pairs: dict[tuple[int, int], dict[bytes, int]] = attrs.field(factory=dict, init=False)

    def note(self, mac: bytes, old: int, new: int) -> int:
        """A station was heard on another port than before: how often now. HOT PATH of a loop."""
        pair = (old, new) if old < new else (new, old)
        stations = self._pairs.get(pair)
        if stations is None:
            if len(self._pairs) >= _PAIRS:
                return 0
            stations = self._pairs[pair] = {}
        if mac not in stations and len(stations) >= _STATIONS:
            return 0
        stations[mac] = count = stations.get(mac, 0) + 1
        return count

    def looped(self) -> list[tuple[int, int]]:
        """The pairs of ports that look like the ends of a loop."""
        return [
            pair
            for pair, stations in self._pairs.items()
            if sum(count >= MIN_MOVES for count in stations.values()) >= MIN_STATIONS
        ]

    def ports(self) -> set[int]:
        """The ports between which anything has moved more than once."""
        return {
            port
            for pair, stations in self._pairs.items()
            if max(stations.values()) > 1
            for port in pair
        }

    def tick(self, now: float) -> None:
        """Begin anew when the window is over."""
        if now - self._since >= MOVES_WINDOW:
            self._since = now
            self._pairs.clear()

    def forget(self, port: int) -> None:
        """What concerns this port is over."""
        for pair in [pair for pair in self._pairs if port in pair]:
            del self._pairs[pair]


@attrs.define(eq=False)
class Penalties:
    """How long a port is blocked, by its name: plugging it in again does not help."""

    first: float = FIRST_PENALTY
    _last: OrderedDict[str, tuple[float, float]] = attrs.field(factory=OrderedDict, init=False)

    def block(self, name: str, now: float) -> float:
        """The port has done it (again): blocked for so many seconds from now."""
        length, until = self._last.pop(name, (0.0, 0.0))
        length = min(length * 2, LAST_PENALTY) if length and now - until < FORGIVEN else self.first
        self._last[name] = length, now + length
        if len(self._last) > _NAMES:
            self._last.popitem(last=False)
        return length

    def left(self, name: str, now: float) -> float:
        """Seconds for which the port of that name is still to be blocked."""
        return max(0.0, self._last.get(name, (0.0, 0.0))[1] - now)
