"""Metrics: what of a status they are, that their labels are bounded, and that what names them is
right: the operations page, the alert rules, the dashboard.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.test_docs import code, rows, section
from vswitch.management.metrics import COUNTER, METRICS, exposition
from vswitch.management.status import (
    FaultStatus,
    ForeignStatus,
    PortStatus,
    PublishStatus,
    SwitchStatus,
)

MONITORING = Path(__file__).resolve().parents[3] / "examples" / "monitoring"
PORT = PortStatus(
    port=1,
    name='odd "name"',
    state="up",
    via="udp:203.0.113.9:41022",
    rtt_ms=12.5,
    datagram_size=1472,
    rx_frames=7,
    rx_bytes=700,
    drops={"queue_full": 3},
    transport_drops={"replay": 2},
)
STATUS = SwitchStatus(
    version="1.0",
    uptime_s=3.5,
    listen="[::]:7450",
    subnet="10.77.0.0/24",
    mtu=1500,
    members=4,
    network="lab",
    foreign=[ForeignStatus(name="f", kind="udp", listen=":1", refused={"full": 5})],
    published=[PublishStatus(listen="tcp://:80", to="pc1:80", open=2, total=9, up_bytes=1)],
    ports=[PORT, PortStatus(port=2, name="pc2", state="down")],
    totals={"rx_frames": 7, "dropped": 3},
    transport_drops={"bad_mac1": 6},
    ended=[FaultStatus(ended="dhcp", port="", error="KeyError", reference="1a")],
)


def samples(text):
    """Value by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_a_status_says_is_what_is_scraped():
    text, media = exposition([STATUS])
    found = samples(text.decode())
    lab, odd = ("network", "lab"), ("port", 'odd "name"')
    assert media.startswith("text/plain")
    assert found["vswitch_info", lab, ("version", "1.0")] == 1
    assert found["vswitch_ports", lab, ("state", "up")] == 1
    assert found["vswitch_ports", lab, ("state", "blocked")] == 0
    assert found["vswitch_port_paths", ("kind", "udp"), lab] == 1
    assert found["vswitch_faults", lab] == 1
    assert found["vswitch_port_rx_bytes_total", lab, odd] == 700
    assert found["vswitch_port_rtt_seconds", lab, odd] == 0.0125
    assert ("vswitch_port_rtt_seconds", lab, ("port", "pc2")) not in found
    assert found["vswitch_port_drops_total", lab, odd, ("reason", "queue_full")] == 3
    assert found["vswitch_foreign_refused_total", ("listener", "f"), lab, ("reason", "full")] == 5
    assert found["vswitch_published_connections", ("listen", "tcp://:80"), lab] == 2
    assert found["vswitch_dropped_frames_total", lab] == 3
    assert {name for name, *_ in found} <= {metric.name for metric in METRICS}


def test_no_network_is_an_answer_too():
    assert samples(exposition([])[0].decode()) == {}


def test_names_are_of_us_and_of_their_kind():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"vswitch_[a-z_]+[a-z]", name) for name in names)
    assert all(metric.name.endswith("_total") == (metric.kind == COUNTER) for metric in METRICS)


def test_a_series_is_of_nothing_that_has_no_bound():
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels == {"version", "state", "kind", "reason", "port", "listen", "listener"}


def test_the_page_of_operations_has_every_metric():
    listed = [
        (code(name)[0], kind, tuple(code(labels)), text)
        for name, kind, labels, text in rows(section("Metrics"))
    ]
    assert listed == [(each.name, each.kind, each.labels, each.help) for each in METRICS]


@pytest.mark.parametrize("name", ["alerts.yml", "grafana-dashboard.json"])
def test_what_watches_a_switch_asks_for_metrics_that_there_are(name):
    asked = set(re.findall(r"\bvswitch_[a-z_]+", (MONITORING / name).read_text()))
    assert len(asked) > 3
    assert asked <= {metric.name for metric in METRICS}


def test_the_dashboard_is_whole():
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


@needs_promtool
def test_promtool_finds_nothing_in_the_metrics():
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition([STATUS])[0],
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_promtool
def test_promtool_takes_the_alert_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", str(MONITORING / "alerts.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
