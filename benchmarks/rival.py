"""A plain TCP with CUBIC (RFC 9438) on a simulated bottleneck, for lanes to share it with.

Full-size packets, as many as the window lets; an acknowledgement for each that arrives; what was
overtaken by three others is lost and costs 30 % of the window, once a round trip. Slow start ends
with the first loss. It always has more to send.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import Factory, define

from benchmarks.bottleneck import Network

PACKET, PAYLOAD = 1500, 1448  # bytes
C, BETA = 0.4, 0.7
LOST_AFTER = 3  # later ones that have arrived
TIMEOUT = 0.5  # seconds


@define(eq=False)
class Rival:
    """One such stream."""

    network: Network
    window: float = 10.0  # packets
    threshold: float = 1e9
    arrived: int = 0
    log: list[tuple[float, int]] = Factory(list)
    _number: int = 0
    _under_way: OrderedDict[int, float] = Factory(OrderedDict)
    _recovery: int = 0  # reductions again for packets from this one on
    _best: float = 0.0  # window before the last reduction
    _epoch: float = -1.0
    _rtt: float = 0.1
    _stopped: bool = False

    def start(self, at: float) -> None:
        self.network.at(at, self._send)
        self.network.at(at + TIMEOUT, self._watch)

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopped = True

    def rate(self, start: float, end: float) -> float:
        """Bits of payload a second in that time."""
        return sum(size for at, size in self.log if start <= at < end) * 8 / (end - start)

    def _send(self) -> None:
        network = self.network
        while len(self._under_way) < self.window and not self._stopped:
            number, self._number = self._number, self._number + 1
            self._under_way[number] = sent = network.now
            arrives = network.forward.send(PACKET, network.now, network._rng)
            back = arrives and network.back.send(52, arrives, network._rng)
            if back:
                network.at(back, lambda n=number, s=sent: self._acked(n, s))  # type: ignore[misc]

    def _acked(self, number: int, sent: float) -> None:
        now = self.network.now
        if self._under_way.pop(number, None) is None:
            return
        self._rtt += (now - sent - self._rtt) / 8
        self.log.append((now, PAYLOAD))
        lost = [each for each in self._under_way if each + LOST_AFTER <= number]
        for each in lost:
            del self._under_way[each]
        if lost and max(lost) >= self._recovery:
            self._reduce(now)
        elif not lost:
            self._grow(now)
        self._send()

    def _reduce(self, now: float) -> None:
        self._best, self.window = self.window, max(2.0, self.window * BETA)
        self.threshold, self._epoch, self._recovery = self.window, now, self._number

    def _grow(self, now: float) -> None:
        if self.window < self.threshold:
            self.window += 1
            return
        turn = (self._best * (1 - BETA) / C) ** (1 / 3)
        target = C * (now + self._rtt - self._epoch - turn) ** 3 + self._best
        reno = self._best * BETA + 0.53 * (now - self._epoch) / self._rtt
        wanted = min(max(target, reno), 1.5 * self.window)
        self.window += max(0.01, wanted - self.window) / self.window

    def _watch(self) -> None:
        now = self.network.now
        if self._under_way and now - next(iter(self._under_way.values())) > TIMEOUT:
            self._under_way.clear()
            self._reduce(now)
            self.window = 2.0
            self._send()
        self.network.at(now + TIMEOUT / 2, self._watch)
