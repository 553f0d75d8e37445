"""Conversations with the last version before hybrid handshakes, commit cbe63b7, as recorded.

In both roles and both suites, with each `--pq` of this side. Keys, ephemeral keys, time and chance
of this side are fixed, so that the datagrams of the older one, which have answered it once, answer
it again. Recorded anew by `python -m tests.older CHECKOUT PYTHON`.
"""
