"""Every order of events, up to a depth, between two real endpoints and whoever is between them.

    python -m tests.model --depth 3                   # from all beginnings; prints what was seen
    python -m tests.model --depth 5 --states 50000 --root connected

The states are those of the real cores: an action is done by doing all before it again, and states
that look the same in `world.World.state` are gone into once. See docs/model.md.
"""
