"""Hosts in network namespaces, for the demo, the tests and the benchmarks.

    with Lab() as lab:
        wire = lab.bridge("underlay")
        pc1 = lab.host("pc1")
        lab.link(pc1, wire, address="192.0.2.1/24")
        pc1.run(["ip", "addr"])

As root, or in a user namespace where unprivileged users may have one. Nothing outside the
namespaces is touched, and no program but Python is needed to build a lab. When it ends, also by
kill -9, its processes are killed and its namespaces and directories go with them.
"""

from vswitch.lab.host import Call, Host
from vswitch.lab.lab import Lab, missing_for_lab
from vswitch.lab.wait import wait_until

__all__ = ["Call", "Host", "Lab", "missing_for_lab", "wait_until"]
