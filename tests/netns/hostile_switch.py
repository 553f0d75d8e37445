"""A switch that lies in its welcome, run in a lab host: the real `serve`, patched here.

    python hostile_switch.py ORDERS serve [OPTIONS]

The file ORDERS is JSON: fields of the welcome that replace the true ones. Whenever it is replaced,
members are told that the switch restarts, so that they come back for the next welcome. Meanwhile
they hear hundreds of notices a second.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from vswitch.cli import main
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Bye, ByeCode, Notice, Welcome
from vswitch.serving import reception

ORDERS = Path(sys.argv[1])
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def read_orders():
    return ORDERS.read_text()


class LyingDevice(MemberDevice):
    def send_control(self, message):
        if isinstance(message, Welcome):
            said = read_orders()
            message = attrs.evolve(message, **json.loads(said))
            trio.lowlevel.spawn_system_task(self.be_a_nuisance, said)
        super().send_control(message)

    def flood(self, message):
        with suppress(trio.WouldBlock):
            for _ in range(20):
                super().send_control(message)

    async def be_a_nuisance(self, said):
        with suppress(*GONE):
            while read_orders() == said:
                self.flood(Notice("x" * 900))
                await trio.sleep(0.05)
            self.flood(Bye(ByeCode.SHUTDOWN, "a moment"))
            self.close(ByeCode.SHUTDOWN, "a moment")


reception.MemberDevice = LyingDevice
sys.exit(main(sys.argv[2:]))
