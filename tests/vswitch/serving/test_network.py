import logging

import pytest
import trio
import trio.testing

from vswitch.errors import ConfigError
from vswitch.management.tables import ended_lines


async def test_a_service_that_fails_ends_alone_and_is_named(site, caplog):
    caplog.set_level(logging.ERROR)
    fail = trio.Event()

    async def failing(fault, *, task_status):
        task_status.started("its value")
        await fail.wait()
        raise RuntimeError(fault)

    async def staying(*, task_status):
        task_status.started()
        await trio.sleep_forever()

    async with site.serving() as running:
        network = running.network
        await network.start_service("stays", staying)
        assert await network.start_service("names", failing, "no such luck") == "its value"
        fail.set()
        await trio.testing.wait_all_tasks_blocked()
        status = await site.status()
        assert [each.ended for each in status.ended] == ["names"]
        assert "no such luck" in caplog.text
        assert status.ended[0].reference in caplog.text
        assert any("service names has ended" in line for line in ended_lines(status))
        async with site.joined("pc1", running):
            pass


async def test_a_service_that_fails_before_it_has_started_ends_alone(site):
    async def failing(*, task_status):
        raise RuntimeError

    async with site.serving() as running:
        assert await running.network.start_service("names", failing) is None
        assert [each.ended for each in (await site.status()).ended] == ["names"]


async def test_what_an_operator_can_mend_keeps_a_service_from_starting(site):
    async def refused(*, task_status):
        raise ConfigError("[names] domain: wrong")

    async with site.serving() as running:
        with pytest.raises(ConfigError, match="domain"):
            await running.network.start_service("names", refused)
        assert (await site.status()).ended == []
