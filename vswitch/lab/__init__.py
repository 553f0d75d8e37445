"""Hosts in network namespaces, for the demo, the tests and the benchmarks.

    with Lab() as lab:
        wire = lab.bridge("underlay")
        pc1 = lab.host("pc1")
        lab.link(pc1, wire, address="192.0.2.1/24")
        pc1.run(["ip", "addr"])

    with Wire(lab, pc1, pc2, forward=PathSpec(rate=20e6, delay=0.025, loss=0.01)) as path:
        pc1.run(["ping", "-c", "3", path.b_end.ip])

As root, or in a user namespace where unprivileged users may have one. Nothing outside the
namespaces is touched, and no program but Python is needed to build a lab. When it ends, also by
kill -9, its processes are killed and its namespaces and directories go with them.
"""

from transport.emulation import PathSpec
from vswitch.lab.host import Call, Host
from vswitch.lab.job import WireSpec
from vswitch.lab.lab import Lab, missing_for_lab
from vswitch.lab.nat import NatSpec
from vswitch.lab.wait import wait_until
from vswitch.lab.wire import End, Wire

__all__ = [
    "Call",
    "End",
    "Host",
    "Lab",
    "NatSpec",
    "PathSpec",
    "Wire",
    "WireSpec",
    "missing_for_lab",
    "wait_until",
]
