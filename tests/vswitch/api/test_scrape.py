"""A real Prometheus scrapes a real switch; and what needs no token."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from functools import partial

import pytest
import trio

from tests.vswitch.api.test_api import an_api
from vswitch.api.roles import Role

PATIENCE = 120  # seconds: far beyond what a start takes


async def test_who_may_scrape_and_who_may_ask_whether_it_lives(site):
    async with an_api(site) as (client, running):
        assert (await client()("GET", "/metrics"))[0] == 401
        status, said, headers = await client(Role.READ)("GET", "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain")
        assert b'vswitch_ports{network="default",state="up"} 0.0' in said
        assert (await client()("GET", "/healthz"))[:2] == (200, b"ok\n")
        assert (await client()("GET", "/readyz"))[:2] == (200, b"ready\n")
        running.underlay.subject.networks.clear()
        assert (await client()("GET", "/readyz"))[:2] == (503, b"no network is served\n")
        assert (await client()("GET", "/healthz"))[0] == 200


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, expression):
    """The values of an expression, at a Prometheus; none while it has none or does not answer."""
    words = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/v1/query?{words}", timeout=10
        ) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return [float(each["value"][1]) for each in found]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
async def test_prometheus_has_what_status_says(site, tmp_path):
    async with an_api(site) as (client, running):
        token = client(Role.READ).headers["Authorization"].split()[1]
        (tmp_path / "token").write_text(token)
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: vswitch\n"
            f"    authorization: {{credentials_file: {tmp_path}/token}}\n"
            f'    static_configs: [{{targets: ["{running.underlay.api}"]}}]\n'
        )
        port = free_port()
        command = [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.run_process, command, check=False, **quiet))
            with trio.fail_after(PATIENCE):
                while True:
                    if await trio.to_thread.run_sync(ask, port, "vswitch_uptime_seconds"):
                        break
                    await trio.sleep(0.2)
            said = (await client(Role.READ)("GET", "/v1/status"))[1]
            for expression, wanted in (
                ('up{job="vswitch"}', 1),
                ("vswitch_members", said["members"]),
                ('vswitch_ports{state="up"}', len(said["ports"])),
                ("count(vswitch_info)", 1),
            ):
                assert await trio.to_thread.run_sync(ask, port, expression) == [wanted]
            nursery.cancel_scope.cancel()
