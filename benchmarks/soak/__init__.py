"""A LAN that is never left alone, in virtual time, and what must hold all the while.

    python -m benchmarks.soak --minutes 10 --seed 1
    python -m benchmarks.soak --hours 8

The real switch, real endpoints and sessions on the network in memory (`transport.testing`); the
clock is Trio's mock clock, so an hour takes minutes. Everything follows from the seed.
"""
