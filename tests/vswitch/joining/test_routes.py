"""The routes of a member that ends amid a change: nothing is left of them."""

from __future__ import annotations

import attrs
import pytest
import trio

from vswitch.config.options import JoinConfig
from vswitch.devices import routing
from vswitch.devices.routing import NOTHING
from vswitch.joining.routes import Routes
from vswitch.testing import FakeInterface


class Interface(FakeInterface):
    """One of this host, of which one act may take until `go`, cancelled or not, as threads do."""

    private = False

    def __init__(self):
        super().__init__()
        self.address = "10.77.0.2/24"
        self.slow, self.begun, self.go = "", trio.Event(), trio.Event()

    async def _wait(self, act):
        if act == self.slow:
            self.begun.set()
            with trio.CancelScope(shield=True):
                await self.go.wait()

    async def facts(self):
        await self._wait("facts")
        return self.host

    async def set_routing(self, wanted):
        await trio.lowlevel.checkpoint()
        self.routing = wanted
        await self._wait("set_routing")


async def at_once():
    """Where the switch is, where no name has to be resolved for that."""
    return []


@pytest.mark.parametrize("act", ["facts", "set_routing"])
async def test_an_end_while_the_way_out_is_given_up_undoes_all(tmp_path, monkeypatch, act):
    monkeypatch.setattr(routing, "others_way_out", bool)
    config = JoinConfig(name="pc1", state=tmp_path, exit_node="gw")
    config.files.ensure()
    undo = config.files.undo("pc1", "routes")
    interface = Interface()
    routes = Routes(config, interface, lambda *_, **__: None)
    routes.find_switch = at_once
    async with routes.opened(), trio.open_nursery() as nursery:
        await routes.told(("0.0.0.0/0 via 10.77.0.3 gw",), None)
        assert routes.way_out
        assert undo.exists()
        routes.config, interface.slow = attrs.evolve(config, exit_node=""), act
        nursery.start_soon(routes.look_again)
        await interface.begun.wait()
        nursery.cancel_scope.cancel()
        interface.go.set()
    assert interface.routing == NOTHING
    assert not undo.exists()
