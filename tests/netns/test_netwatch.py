"""The kernel's notices of changes, in a namespace where nobody else changes anything."""

import pytest
import trio

from vswitch.devices import netlink
from vswitch.joining.host_changes import SETTLE, watch_network

pytestmark = [pytest.mark.netns, pytest.mark.inside]


async def test_changes_of_addresses_and_links_are_told_and_nothing_else(nursery):
    heard = []
    nursery.start_soon(watch_network, lambda: heard.append(trio.current_time()))
    await trio.sleep(0.3)
    heard.clear()
    for number, change in enumerate(
        (
            lambda: netlink.create_bridge("br0"),
            lambda: netlink.configure("br0", up=False),
            lambda: netlink.configure("br0", up=True),
            lambda: netlink.add_address("br0", "192.0.2.1/24"),
            lambda: netlink.add_address("br0", "2001:db8::1/64"),
            lambda: netlink.remove_address("br0", "192.0.2.1/24"),
            lambda: netlink.delete("br0"),
        )
    ):
        await trio.to_thread.run_sync(change)
        await trio.sleep(4 * SETTLE)
        assert heard, number
        assert len(heard) <= 8  # volleys, not single notices
        await trio.sleep(1.2)  # duplicate address detection has its own
        heard.clear()
    await trio.sleep(1)
    assert heard == []
