"""What Prometheus gets: the statuses of all networks of a switch, as metrics.

`METRICS` is the one table: name, kind, labels, help, and how it is read from a status;
docs/operations.md is held against it. Labels are bounded by networks, ports (those that there are
now; `max_members` and the listeners bound them), states, published rules and the names of drops:
none is of a MAC or an IP address. A port that comes again counts from zero, as Prometheus expects.

prometheus-client is imported when somebody asks, as most switches are never asked.

Pure; raises nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from vswitch.management.status import PortStatus, SwitchStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Samples = Iterable[tuple[Sequence[str], float]]  # values of labels, and the value
GAUGE: Final = "gauge"
COUNTER: Final = "counter"


@frozen
class Metric:
    """One metric: its samples are those of each network, whose name is the first label."""

    name: str
    kind: str  # GAUGE, or COUNTER, whose name ends in _total
    labels: tuple[str, ...]  # behind `network`
    help: str
    read: Callable[[SwitchStatus], Samples]


def _one(read: Callable[[SwitchStatus], float]) -> Callable[[SwitchStatus], Samples]:
    return lambda status: [((), read(status))]


def _total(name: str) -> Callable[[SwitchStatus], Samples]:
    return lambda status: [((), status.totals.get(name, 0))]


def _each_port(read: Callable[[PortStatus], float | None]) -> Callable[[SwitchStatus], Samples]:
    def samples(status: SwitchStatus) -> Samples:
        values = ((port.name, read(port)) for port in status.ports)
        return [((name,), value) for name, value in values if value is not None]

    return samples


def _each_drop(
    read: Callable[[PortStatus], Mapping[str, int]],
) -> Callable[[SwitchStatus], Samples]:
    return lambda status: [
        ((port.name, reason), count)
        for port in status.ports
        for reason, count in read(port).items()
    ]


def _states(status: SwitchStatus) -> Samples:
    found = Counter(port.state for port in status.ports)
    return [((state,), found[state]) for state in ("up", "blocked", "down")]


def _paths(status: SwitchStatus) -> Samples:
    found = Counter((port.via or "").partition(":")[0] for port in status.ports)
    return [((kind,), count) for kind, count in found.items() if kind]


def _seconds(port: PortStatus) -> float | None:
    return None if port.rtt_ms is None else port.rtt_ms / 1000


_PORT = ("port",)
METRICS: Final = (
    Metric(
        "vswitch_info",
        GAUGE,
        ("version",),
        "1, with the version of the running switch as a label",
        lambda status: [((status.version,), 1)],
    ),
    Metric(
        "vswitch_uptime_seconds",
        GAUGE,
        (),
        "seconds since the network was started",
        _one(lambda status: status.uptime_s),
    ),
    Metric(
        "vswitch_members",
        GAUGE,
        (),
        "members that may connect, connected or not",
        _one(lambda status: status.members),
    ),
    Metric(
        "vswitch_ports",
        GAUGE,
        ("state",),
        "ports by state: up, blocked (nothing passes for a while), down",
        _states,
    ),
    Metric(
        "vswitch_port_paths",
        GAUGE,
        ("kind",),
        "ports by how they are attached, such as udp or https",
        _paths,
    ),
    Metric(
        "vswitch_faults",
        GAUGE,
        (),
        "parts that a fault of vswitch has ended: should be 0",
        _one(lambda status: len(status.ended)),
    ),
    Metric(
        "vswitch_rx_frames_total",
        COUNTER,
        (),
        "frames into the switch at all ports, those that are gone included",
        _total("rx_frames"),
    ),
    Metric("vswitch_rx_bytes_total", COUNTER, (), "bytes of these frames", _total("rx_bytes")),
    Metric(
        "vswitch_tx_frames_total",
        COUNTER,
        (),
        "frames out of the switch at all ports",
        _total("tx_frames"),
    ),
    Metric("vswitch_tx_bytes_total", COUNTER, (), "bytes of these frames", _total("tx_bytes")),
    Metric(
        "vswitch_flood_copies_total",
        COUNTER,
        (),
        "copies of frames that were made for more than one port",
        _total("flood_copies"),
    ),
    Metric(
        "vswitch_dropped_frames_total",
        COUNTER,
        (),
        "frames that went no further, at all ports",
        _total("dropped"),
    ),
    Metric(
        "vswitch_queued_frames",
        GAUGE,
        (),
        "frames that wait for a port now",
        _total("queued_frames"),
    ),
    Metric(
        "vswitch_held_frames",
        GAUGE,
        (),
        "frames that an impairment delays now",
        _total("held_frames"),
    ),
    Metric(
        "vswitch_transport_drops_total",
        COUNTER,
        ("reason",),
        "datagrams that ended unused before they were of a session, by reason; the same in each "
        "network, as the socket is of all",
        lambda status: [((reason,), count) for reason, count in status.transport_drops.items()],
    ),
    Metric(
        "vswitch_port_up",
        GAUGE,
        _PORT,
        "1 while frames pass the port, else 0",
        _each_port(lambda port: float(port.state == "up")),
    ),
    Metric(
        "vswitch_port_rx_frames_total",
        COUNTER,
        _PORT,
        "frames from the port into the switch",
        _each_port(lambda port: port.rx_frames),
    ),
    Metric(
        "vswitch_port_rx_bytes_total",
        COUNTER,
        _PORT,
        "bytes of these frames",
        _each_port(lambda port: port.rx_bytes),
    ),
    Metric(
        "vswitch_port_tx_frames_total",
        COUNTER,
        _PORT,
        "frames out of the switch by the port",
        _each_port(lambda port: port.tx_frames),
    ),
    Metric(
        "vswitch_port_tx_bytes_total",
        COUNTER,
        _PORT,
        "bytes of these frames",
        _each_port(lambda port: port.tx_bytes),
    ),
    Metric(
        "vswitch_port_queued_frames",
        GAUGE,
        _PORT,
        "frames that wait for the port's device now",
        _each_port(lambda port: port.queued_frames),
    ),
    Metric(
        "vswitch_port_queued_bytes",
        GAUGE,
        _PORT,
        "bytes of these frames",
        _each_port(lambda port: port.queued_bytes),
    ),
    Metric(
        "vswitch_port_rtt_seconds",
        GAUGE,
        _PORT,
        "round trip to the member; not there while it is not known",
        _each_port(_seconds),
    ),
    Metric(
        "vswitch_port_datagram_bytes",
        GAUGE,
        _PORT,
        "UDP payload that the path to the member takes, as far as is known",
        _each_port(lambda port: port.datagram_size),
    ),
    Metric(
        "vswitch_port_drops_total",
        COUNTER,
        ("port", "reason"),
        "frames dropped at the port, by the names of the counters",
        _each_drop(lambda port: port.drops),
    ),
    Metric(
        "vswitch_port_transport_drops_total",
        COUNTER,
        ("port", "reason"),
        "datagrams of the member's session that ended unused, by reason",
        _each_drop(lambda port: port.transport_drops),
    ),
    Metric(
        "vswitch_port_datagram_lane_sent_total",
        COUNTER,
        _PORT,
        "units sent on the datagram lane",
        _each_port(lambda port: port.datagram_sent),
    ),
    Metric(
        "vswitch_port_datagram_lane_received_total",
        COUNTER,
        _PORT,
        "units received there",
        _each_port(lambda port: port.datagram_received),
    ),
    Metric(
        "vswitch_port_datagram_lane_lost_total",
        COUNTER,
        _PORT,
        "units of ours that the member reported lost",
        _each_port(lambda port: port.datagram_lost),
    ),
    Metric(
        "vswitch_published_connections",
        GAUGE,
        ("listen",),
        "connections of a published service that are open now",
        lambda status: [((each.listen,), each.open) for each in status.published],
    ),
    Metric(
        "vswitch_published_connections_total",
        COUNTER,
        ("listen",),
        "connections of a published service",
        lambda status: [((each.listen,), each.total) for each in status.published],
    ),
    Metric(
        "vswitch_published_up_bytes_total",
        COUNTER,
        ("listen",),
        "bytes from clients to the member",
        lambda status: [((each.listen,), each.up_bytes) for each in status.published],
    ),
    Metric(
        "vswitch_published_down_bytes_total",
        COUNTER,
        ("listen",),
        "bytes from the member to clients",
        lambda status: [((each.listen,), each.down_bytes) for each in status.published],
    ),
    Metric(
        "vswitch_foreign_refused_total",
        COUNTER,
        ("listener", "reason"),
        "clients or datagrams of a foreign listener that got no port, by reason",
        lambda status: [
            ((each.name, reason), count)
            for each in status.foreign
            for reason, count in each.refused.items()
        ],
    ),
)


def families(statuses: Sequence[SwitchStatus]) -> Iterator[Family]:
    """All metrics of these networks, as prometheus-client writes them."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for metric in METRICS:
        make = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
        family = make(metric.name, metric.help, labels=("network", *metric.labels))
        for status in statuses:
            for labels, value in metric.read(status):
                family.add_metric([status.network, *labels], value)
        yield family


def exposition(statuses: Sequence[SwitchStatus]) -> tuple[bytes, str]:
    """The text for a scrape, and its media type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.registry import Collector

    class _Statuses(Collector):
        def collect(self) -> Iterator[Family]:
            return families(statuses)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Statuses())
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
