"""Recorded simulations: what the project does, seen from outside, must not change unnoticed.

Each scenario is a seeded run in virtual time. Its trace has a line for everything that an observer
would see, in order: each datagram with its moment, size, type and bytes, each event, each message
that is delivered, each frame that a port gets, all counters. `recorded.json` has the hash of each
trace; a restructuring must leave all of them as they are.

    python -m tests.traces                one line a scenario: NAME SHA256 LINES
    python -m tests.traces --check        compare with the record, and name what differs first
    python -m tests.traces --record       write the record anew
    python -m tests.traces --dump NAME    the whole trace as text, to compare two versions by `diff`

Record anew only with a change that is meant to change what the project does, in the same commit,
and say in its message why. A difference that nobody meant is a bug, be it of one nanosecond. A
version of Python or of `cryptography` is no reason either: the traces depend on none.
"""
