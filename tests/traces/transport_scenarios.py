"""Sessions on good, bad and changing paths, and handshakes in all kinds of trouble."""

from collections.abc import Callable

import attrs

from tests.traces.network import Host, Net
from tests.traces.trace import Trace
from transport import Grant, Suite
from transport.emulation import PathSpec
from transport.wire.datagrams import INIT, Result
from vswitch.members.lane_choice import LaneRule

SERVER = "198.51.100.1"
CLIENT = "192.0.2.1"
GOOD = PathSpec(rate=10e6, queue=60_000, delay=0.025)


def pair(trace: Trace, seed: int, spec: PathSpec = GOOD, **options) -> tuple[Net, Host, Host]:
    """A client that is about to connect to a server."""
    net = Net(trace, seed=seed)
    server = net.host(SERVER, authority=net.known)
    client = net.host(CLIENT, 41_022, **options)
    net.path(client, server, spec)
    client.connect(server)
    return net, client, server


def bulk(trace: Trace, spec: PathSpec, *, seed: int, seconds: float = 4.0, **options) -> None:
    """A transfer for as long as it takes, little in the other direction, and an orderly end."""
    net, client, server = pair(trace, seed, spec, **options)
    client.bulk(messages=100_000, size=1400)
    server.every(
        0.1, lambda session, n: session.bulk.send([b"%d" % n], net.now), round(seconds * 10)
    )
    net.run(seconds)
    client.sources.clear()
    net.run(3.0)
    client.act(lambda session: session.close(7, "done", net.now))
    net.run(1.0)
    net.conclude()


def lossless(trace: Trace) -> None:
    bulk(trace, GOOD, seed=1)


def lossless_aes(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, rate=30e6), seed=2, seconds=2.0, suite=Suite.AESGCM)


def loss_1_rtt_50(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, loss=0.01), seed=3)


def loss_5_rtt_50(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, loss=0.05), seed=4)


def loss_1_rtt_200(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, loss=0.01, delay=0.1, queue=250_000), seed=5, seconds=5.0)


def loss_5_rtt_200(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, loss=0.05, delay=0.1, queue=250_000), seed=6, seconds=5.0)


def bursts(trace: Trace) -> None:
    bulk(trace, attrs.evolve(GOOD, burst_loss=0.05, burst_length=10), seed=7)


def disorder(trace: Trace) -> None:
    """Jitter, reordering, duplicates and damage."""
    spec = attrs.evolve(
        GOOD, jitter=0.01, reorder=0.02, reorder_delay=0.03, duplicate=0.03, corrupt=0.01
    )
    bulk(trace, spec, seed=8)


def messages_of_all_sizes(trace: Trace) -> None:
    """Empty ones, and some that take many datagrams; the reader pauses meanwhile."""
    net, client, server = pair(trace, 9, attrs.evolve(GOOD, loss=0.02))
    sizes = [0, 1, 60, 1371, 1372, 1373, 4000, 9000, 30_000]
    for host in (client, server):
        host.every(
            0.03,
            lambda session, n: (
                session.bulk.credit > 0
                and session.bulk.send([bytes([n & 255]) * sizes[n % 9]], net.now)
            ),
            100,
        )

    def read(yes: bool) -> None:
        server.reads = yes
        server.act(lambda session: None)

    net.at(1.0, lambda: read(False))
    net.at(2.5, lambda: read(True))
    net.run(6.0)
    net.conclude()


def bufferbloat(trace: Trace) -> None:
    """Two flows behind one address share a link with a queue of half a second."""
    net, first, server = pair(trace, 10, attrs.evolve(GOOD, queue=625_000))
    second = net.host(CLIENT, 41_023)
    first.bulk(messages=100_000, size=1400)
    second.bulk(messages=100_000, size=1400)
    net.at(1.5, lambda: second.connect(server))
    net.run(6.0)
    net.conclude()


def slower_and_faster(trace: Trace) -> None:
    """The link becomes a fifth as fast, then three times as fast as at first."""
    net, client, server = pair(trace, 11, attrs.evolve(GOOD, queue=200_000))
    client.bulk(messages=100_000, size=1400)
    for at, rate in ((2.0, 2e6), (4.0, 30e6)):
        net.at(at, lambda rate=rate: net.path(client, server, attrs.evolve(GOOD, rate=rate)))
    net.run(6.0)
    net.conclude()


def stalls(trace: Trace) -> None:
    """A short path on which now and then nothing passes for a moment."""
    spec = attrs.evolve(GOOD, delay=0.005)
    net, client, server = pair(trace, 25, spec)
    client.bulk(messages=100_000, size=1400)
    for number in range(8):
        down = attrs.evolve(spec, up=False)
        net.at(0.8 + number * 0.7, lambda down=down: net.path(client, server, down))
        again = 0.8 + number * 0.7 + 0.05 * (number + 1)
        net.at(again, lambda: net.path(client, server, spec))
    net.run(7.0)
    net.conclude()


def beside_a_rival(trace: Trace) -> None:
    """Others fill the queue for a while, whatever we do."""
    net, client, server = pair(trace, 26, attrs.evolve(GOOD, queue=125_000))
    client.bulk(messages=100_000, size=1400)
    net.at(2.0, lambda: net.burden(client, server, rate=9e6, seconds=8.0))
    net.run(13.0)
    net.conclude()


def sparse_beside_bulk(trace: Trace) -> None:
    net, client, server = pair(trace, 12, attrs.evolve(GOOD, loss=0.03))
    client.bulk(messages=100_000, size=1400)
    client.every(0.05, lambda session, n: session.sparse.send([b"%04d" % n * 20], net.now), 80)
    server.every(0.2, lambda session, n: session.sparse.send([b"pong"], net.now), 20)
    net.run(5.0)
    net.conclude()


def datagram_lane(trace: Trace) -> None:
    """Datagrams both ways, on a path that loses nothing, then something, then nothing."""
    net, client, server = pair(trace, 13)

    def send(session, n: int) -> None:
        lane = session.open_datagrams(net.now)
        session.datagrams.send([b"%06d" % n * (lane.message_size // 12)], net.now)

    for host in (client, server):
        host.every(0.01, send, 700)
    client.every(0.1, lambda session, n: session.bulk.send([b"beside"], net.now), 70)
    net.at(2.5, lambda: net.path(client, server, attrs.evolve(GOOD, loss=0.03, jitter=0.005)))
    net.at(4.0, lambda: net.path(client, server, GOOD))
    net.run(8.0)
    net.conclude()


def auto_lane(trace: Trace) -> None:
    """Each message on the lane that the rule chooses, on a path that loses now and then."""
    net, client, server = pair(trace, 14)
    rules = {host: LaneRule(net.now) for host in (client, server)}

    def send(host: Host, session, n: int) -> None:
        rule = rules[host]
        session.open_datagrams(net.now)
        before = rule.datagram
        message = b"%08d" % n * 100
        if rule.choose(net.now, session.lanes.lost_at, session.in_flight // 800):
            session.datagrams.send([message], net.now)
        else:
            session.bulk.send([message], net.now)
        if rule.datagram != before:
            trace.add(net.now, host.address, "datagram" if rule.datagram else "kcp")

    for host in (client, server):
        host.every(0.1, lambda session, n, host=host: send(host, session, n), 1600)
    net.at(50.0, lambda: net.path(client, server, attrs.evolve(GOOD, loss=0.2)))
    net.at(55.0, lambda: net.path(client, server, GOOD))
    net.run(165.0)
    net.conclude()


def black_hole(trace: Trace) -> None:
    """The path takes less and says nothing, then more again; interfaces take 1,500 bytes."""
    net, client, server = pair(trace, 15, attrs.evolve(GOOD, mtu=1500))
    client.bulk(messages=100_000, size=1400)
    server.every(0.05, lambda session, n: session.bulk.send([bytes(3000)], net.now), 200)
    net.at(1.5, lambda: net.path(client, server, attrs.evolve(GOOD, rate=4e6, mtu=1280)))
    net.at(7.0, lambda: net.path(client, server, attrs.evolve(GOOD, rate=4e6, mtu=1000)))
    net.run(10.0)
    client.sources.clear()
    net.path(client, server, attrs.evolve(GOOD, mtu=1500))
    net.run(60.0)
    net.conclude()


def small_interface(trace: Trace) -> None:
    """The own interface refuses, first some sizes and then more of them."""
    net, client, _ = pair(trace, 16)
    net.at(1.0, lambda: setattr(net, "largest", 1252))
    client.bulk(messages=1500, size=2800)
    net.run(5.0)
    net.conclude()


def roaming(trace: Trace) -> None:
    """A NAT that forgets, a move to another path, and a forged move under traffic."""
    net, client, server = pair(trace, 17, attrs.evolve(GOOD, loss=0.02))
    for host in (client, server):
        host.every(0.02, lambda session, n: session.bulk.send([b"%06d" % n * 30], net.now), 500)
    for number in range(5):
        net.at(1.0 + number, lambda n=number: net.rebind(client, (CLIENT, 20_000 + n)))
    net.at(6.5, lambda: net.rebind(client, ("203.0.113.7", 5555)))
    net.at(8.0, lambda: client.act(lambda session: session.probe(net.now)))
    net.run(12.0)
    net.conclude()


def rekeys(trace: Trace) -> None:
    """By age, with and without loss, and because somebody asks for it; then nothing for long."""
    net, client, server = pair(trace, 18, attrs.evolve(GOOD, loss=0.05))
    for host in (client, server):
        host.every(0.2, lambda session, n: session.bulk.send([b"%06d" % n * 10], net.now), 1300)
    net.at(30.0, lambda: client.act(lambda session: session.renew()))
    net.run(300.0)
    net.path(client, server, GOOD)
    net.run(400.0)
    net.conclude()


def outages(trace: Trace) -> None:
    """One that heals under traffic, one in one direction, one that does not."""
    net, client, server = pair(trace, 19)
    down = attrs.evolve(GOOD, up=False)
    for host in (client, server):
        host.every(0.05, lambda session, n: session.bulk.send([b"%06d" % n * 30], net.now), 700)
    net.at(3.0, lambda: net.path(client, server, down))
    net.at(11.0, lambda: net.path(client, server, GOOD))
    net.at(15.0, lambda: net.path(client, server, down, GOOD))
    net.at(20.0, lambda: net.path(client, server, GOOD))
    net.at(30.0, lambda: net.path(client, server, down))
    net.run(120.0)
    net.conclude()


def stateless_reset(trace: Trace) -> None:
    """The server is killed and comes back; later it is one that stays silent."""
    net, client, server = pair(trace, 20)
    client.every(0.5, lambda session, n: session.bulk.send([b"%06d" % n * 30], net.now), 60)

    def again(silent: bool) -> None:
        net.host(SERVER, identity=server.identity, authority=net.known, silent=silent)

    net.at(3.0, lambda: again(False))
    net.at(6.0, lambda: client.connect(net.hosts[server.address]))
    net.at(12.0, lambda: again(True))
    net.run(90.0)
    net.conclude()


def simultaneous_handshakes(trace: Trace) -> None:
    """Both sides begin at once, and twenty others with them, on paths that lose a third."""
    net = Net(trace, seed=21)
    hub = net.host(SERVER, authority=net.known)
    spec = PathSpec(delay=0.03, jitter=0.02, loss=0.3, duplicate=0.1, corrupt=0.02)
    for number in range(20):
        host = net.host(f"10.0.0.{number + 1}", authority=net.known)
        net.path(host, hub, spec)
        host.connect(hub)
        hub.connect(host)
        host.every(0.5, lambda session, n: session.bulk.send([b"%d" % n], net.now), 20)
        hub.every(0.05, lambda session, n: session.bulk.send([b"%d" % n], net.now), 10)
    net.run(30.0)
    net.conclude()


def refusals(trace: Trace) -> None:
    """A stranger, one with another pre-shared key, one whom the server tells no, a full table."""
    net = Net(trace, seed=22)
    server = net.host(SERVER, authority=net.known, max_sessions=2)
    hosts = [net.host(f"10.0.0.{number}") for number in range(1, 7)]
    del net.known.keys[hosts[0].identity.public]
    net.known.keys[hosts[2].identity.public] = Grant(result=REFUSAL)
    for number, host in enumerate(hosts):
        net.path(host, server, PathSpec(delay=0.02))
        psk = bytes([9]) * 32 if number == 1 else bytes(32)
        net.at(number * 0.5, lambda h=host, p=psk: h.connect(server, psk=p, patience=5.0))
    net.run(30.0)
    net.conclude()


def flooded(trace: Trace) -> None:
    """Two hundred clients behind one address, while copies of an init come from everywhere."""
    net = Net(trace, seed=23)
    server = net.host(SERVER, authority=net.known)
    first = net.host("192.0.2.7")
    first.connect(server)
    (init,) = [train[0] for train in first.demux.datagrams_to_send(net.now)]
    assert init[0] == INIT
    clients = [net.host(CLIENT, 10_000 + number) for number in range(200)]
    for client in clients:
        net.path(client, server, PathSpec(delay=0.03, loss=0.02))
        net.at(net.random.random() * 2, lambda c=client: c.connect(server, patience=5.0))

    def forge() -> None:
        spoofed = [(f"10.{net.random.randrange(256)}.1.1", n) for n in range(1, 151)]
        server.demux.receive_datagrams([(bytes(init), each) for each in spoofed], net.now)
        trace.add("gate", server.demux.gate.shares)

    for number in range(60):
        net.at(0.3 + number * 0.02, forge)
    net.run(8.0)
    net.conclude()


def memory(trace: Trace) -> None:
    """A server that holds too much, of one who sends and whom nobody reads."""
    net = Net(trace, seed=24)
    server = net.host(SERVER, authority=net.known, memory_limit=300_000)
    server.reads = False
    for number in range(3):
        client = net.host(f"10.0.0.{number + 1}")
        net.path(client, server, attrs.evolve(GOOD, rate=20e6))
        client.connect(server)
        client.bulk(messages=100 * (1 + 3 * number), size=1400)
    net.run(5.0)
    net.conclude()


REFUSAL = next(each for each in Result if each is not Result.OK)
SCENARIOS: tuple[Callable[[Trace], None], ...] = (
    lossless,
    lossless_aes,
    loss_1_rtt_50,
    loss_5_rtt_50,
    loss_1_rtt_200,
    loss_5_rtt_200,
    bursts,
    disorder,
    messages_of_all_sizes,
    bufferbloat,
    slower_and_faster,
    stalls,
    beside_a_rival,
    sparse_beside_bulk,
    datagram_lane,
    auto_lane,
    black_hole,
    small_interface,
    roaming,
    rekeys,
    outages,
    stateless_reset,
    simultaneous_handshakes,
    refusals,
    flooded,
    memory,
)
