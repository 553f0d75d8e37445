"""Our KCP engine and KCP itself (siokcp, around ikcp.c) at the two ends of a bad path.

A run is made up from a seed: what is sent each way, the windows, sizes and timers, how the path
loses, repeats and mixes datagrams, when a side stops reading, where numbers and clocks begin. What
is read must be what was sent, in both directions. On virtual time.

    python -m tests.transport.lanes.oracle --segments 1000000
    python -m tests.transport.lanes.oracle --seed 77 --segments 1

KCP has its own timers, as any program that uses it, or none and no losses: so it was set here
when vswitch stood on it.
"""

import argparse
import heapq
import itertools
import random
from collections import Counter

from siokcp import KCPConnection

from transport.lanes.kcp import Conversation

CONV = 0x8000_0001
STEP = 0.010  # seconds
NEVER_MS = 60_000
NUMBERS = 1 << 32
MOST_STEPS = 200_000


class Ours:
    """Our engine, with what a lane does for it."""

    def __init__(self, plan):
        self.kcp = Conversation(
            CONV,
            mtu=plan.mtu,
            send_window=plan.window,
            receive_window=plan.window,
            drops=Counter(),
            now=plan.start - plan.clock,
            receive_from=plan.first,
            send_from=plan.first,
        )
        self.first = plan.first
        self.max_message = self.kcp.max_message

    def send(self, message):
        self.kcp.send([message])

    def take(self, datagrams, now):
        self.kcp.input_untrusted(datagrams, now)

    def due(self, now):
        recovery = self.kcp.recovery
        recovery.take_acked(now)
        if now >= recovery.deadline():
            recovery.handle_timeout(now)
        recovery.take_lost()
        return [*iter(lambda: self.kcp.repeat(now), None), *self.kcp.flush(now)]

    def read(self):
        return self.kcp.receive(1 << 16)

    @property
    def waiting(self):
        return self.kcp.unacknowledged

    @property
    def idle(self):
        return not self.kcp.has_work

    @property
    def segments(self):
        """That have come, and that the other side has."""
        return self.kcp.recovery.arrived + (self.kcp.arrivals.next - self.first) % NUMBERS


class Theirs:
    """KCP itself."""

    def __init__(self, plan):
        out = []

        def output(datagram, append=out.append):
            append(datagram)
            return 0

        self.kcp = kcp = KCPConnection(CONV, output, lambda _: None)
        if plan.timers:
            kcp.nodelay(1, 10, 2, 1)
        else:
            kcp.nodelay(1, 10, 0, 1)
            kcp.rx_minrto = kcp.rx_rto = NEVER_MS
        kcp.wndsize(plan.window, plan.window)
        kcp.rcv_wnd = plan.window  # it takes no fewer than 128 otherwise
        kcp.setmtu(plan.mtu)
        kcp.stream = plan.stream
        kcp.snd_nxt = kcp.snd_una = kcp.rcv_nxt = plan.first
        self.out = out
        self.plan = plan
        self.max_message = (plan.mtu - 24) * 127

    def clock(self, now):
        return int((now - self.plan.start + self.plan.clock) * 1000) % NUMBERS

    def send(self, message):
        self.kcp.send(message)

    def take(self, datagrams, now):
        self.kcp.current = self.clock(now)
        for datagram in datagrams:
            assert self.kcp.receive_data(datagram) >= 0, "KCP refuses what we have sent"

    def due(self, now):
        self.kcp.update(self.clock(now))
        if not self.plan.timers:
            self.kcp.flush()
        datagrams = self.out.copy()
        self.out.clear()
        return datagrams

    def read(self):
        return list(itertools.islice(iter(self.kcp.next_event, None), 200))

    @property
    def waiting(self):
        return self.kcp.waitsnd() * self.plan.mtu

    @property
    def idle(self):
        return not self.kcp.waitsnd()


class Plan:
    """What a seed stands for."""

    def __init__(self, seed, messages=150):
        self.rng = rng = random.Random(seed)
        self.messages = messages  # of each side
        self.timers = rng.random() < 0.8
        self.stream = int(rng.random() < 0.2)
        self.mtu = rng.choice([50, 100, 576, 1400, 1400, 9000])
        self.window = rng.choice([1, 3, 32, 128, 1024] if self.timers else [128, 1024])
        self.first = rng.choice([0, NUMBERS - 1, NUMBERS - 50, NUMBERS // 2 - 40])
        self.start = 5000.0
        self.clock = rng.choice([0.0, 4294967.2, 2147483.5])  # seconds that each clock shows then
        self.loss = rng.choice([0.0, 0.01, 0.1, 0.3]) if self.timers else 0.0
        self.twice = rng.choice([0.0, 0.05, 0.5])
        self.delay = rng.choice([0.0, 0.02, 0.1])
        self.jitter = rng.choice([0.0, 0.005, 0.05])
        self.pauses = rng.choice([0.0, 0.02])  # a step in which a side stops reading
        self.sizes = rng.choice(["tiny", "mixed", "large"])

    def message(self, most):
        rng = self.rng
        # KCP never has a message whose fragments are more than its window: it waits for all.
        most = min(most, self.window * (self.mtu - 24))
        if self.sizes == "tiny":
            size = rng.randrange(4)
        elif self.sizes == "large":
            size = rng.randrange(20 * self.mtu)
        else:
            size = rng.choice([0, 1, self.mtu - 24, self.mtu - 23, rng.randrange(3 * self.mtu)])
        return rng.randbytes(min(size, most))


class Side:
    """One end, what it was given and what it has read."""

    def __init__(self, kcp, plan):
        self.kcp = kcp
        self.plan = plan
        self.sent = []
        self.got = []
        self.paused = 0

    def work(self, now):
        """One step of the program above, and the datagrams that leave."""
        plan, kcp = self.plan, self.kcp
        while len(self.sent) < plan.messages and kcp.waiting < 30_000 and plan.rng.random() < 0.9:
            message = plan.message(kcp.max_message)
            if message or not plan.stream:  # an empty one adds nothing to a stream
                self.sent.append(message)
                kcp.send(message)
        if plan.rng.random() < plan.pauses:
            self.paused = plan.rng.randrange(100)
        self.paused -= 1
        if self.paused < 0:
            self.got += kcp.read()
        return kcp.due(now)


def run(plan):
    """How many segments have passed; AssertionError where what is read is not what was sent."""
    ours, theirs = Side(Ours(plan), plan), Side(Theirs(plan), plan)
    rng, count, now = plan.rng, itertools.count(), plan.start
    path = []  # arrival, order, to whom, datagram
    for _ in range(MOST_STEPS):
        for side, other in ((ours, theirs), (theirs, ours)):
            for datagram in side.work(now):
                while True:
                    if rng.random() >= plan.loss:
                        arrival = now + plan.delay + plan.jitter * rng.random()
                        heapq.heappush(path, (arrival, next(count), other, datagram))
                    if rng.random() >= plan.twice:
                        break
        now += STEP
        while path and path[0][0] <= now:
            _, _, to, datagram = heapq.heappop(path)
            to.kcp.take([datagram], now)
        done = ours.kcp.idle and theirs.kcp.idle
        if done and len(ours.sent) == len(theirs.sent) == plan.messages:
            for side in (ours, theirs):
                side.got += side.kcp.read()
            if is_same(theirs.sent, ours.got, plan.stream) and is_same(ours.sent, theirs.got):
                break
    assert is_same(ours.sent, theirs.got), "what KCP has read is not what we have sent"
    assert is_same(theirs.sent, ours.got, plan.stream), "what we have read is not what KCP has sent"
    ours.kcp.kcp.receive(1 << 40)
    assert ours.kcp.kcp.arrivals.held == 0
    assert ours.kcp.kcp.in_flight == 0
    return ours.kcp.segments


def is_same(sent, got, stream=False):
    return b"".join(sent) == b"".join(got) if stream else sent == got


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.transport.lanes.oracle")
    parser.add_argument("--segments", type=int, default=1_000_000, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each has the next")
    chosen = parser.parse_args()
    segments, seed = 0, chosen.seed
    while segments < chosen.segments:
        try:
            segments += run(Plan(seed))
        except AssertionError as error:
            raise SystemExit(f"seed {seed}: {error}") from error
        seed += 1
    print(f"{segments} segments in {seed - chosen.seed} runs: all as they were sent")


if __name__ == "__main__":
    main()
