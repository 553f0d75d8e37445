"""The real socket on the loopback: both families, what the kernel refuses, and the end."""

import errno
import os
import socket
from contextlib import suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from transport import ChannelBroken, Endpoint, Peer, PrivateKey, open_endpoint, open_udp
from transport.handshake.admission import Grant
from transport.testing.cores import KnownPeers
from transport.wire.trains import lay

V4, V6 = "127.0.0.1", "::1"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((V6, 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def opened():
    """`open_udp` whose sockets are closed afterwards."""
    socks = []

    def opener(*args, **named):
        socks.append(open_udp(*args, **named))
        return socks[-1]

    yield opener
    for sock in socks:
        sock._sock.close()


def port(sock):
    return sock.local_address[1]


def datagrams(trains):
    """What is in trains, one by one, each with its sender."""
    return [
        (train[at : at + size], source)
        for train, source, size in trains
        for at in range(0, len(train), size)
    ]


async def receive(sock, count):
    got = []
    while len(got) < count:
        await sock.wait_readable()
        got += datagrams(sock.receive_nowait(64))
    return got


@pytest.mark.parametrize("host", [V4, pytest.param(V6, marks=needs_ipv6)])
async def test_datagrams_of_all_sizes(opened, host):
    a, b = opened(host), opened(host)
    sizes = [0, 1, 1432, 1432, 1432, 9000, 65_000]
    a.send_nowait(lay([bytes(size) for size in sizes], b.to_native(host, port(b))))
    got = await receive(b, len(sizes) - 1)
    assert [len(datagram) for datagram, _ in got] == sizes[1:]
    assert {source[:2] for _, source in got} == {(host, port(a))}
    assert a.drops == {}
    assert b.drops == {"malformed": 1}  # the empty one is nobody's


@pytest.mark.linux
@pytest.mark.parametrize("kernel_joins", [True, False])
async def test_trains(opened, kernel_joins):
    """A run of one size leaves in few calls and arrives as a train, whoever joins it."""
    a, b, c = opened(V4), opened(V4), opened(V4)
    if not kernel_joins:
        b._sock.setsockopt(17, 104, 0)  # UDP_GRO
        a._sends_trains = False
    run = [bytes([number]) * 1000 for number in range(50)] + [b"the last is shorter"]
    a.send_nowait(lay(run, (V4, port(b))))
    c.send_nowait(lay([b"x"], (V4, port(b))))
    trains = []
    while len(datagrams(trains)) < 52:
        await b.wait_readable()
        trains += b.receive_nowait(128)
    assert [data for data, _ in datagrams(trains)] == [*run, b"x"]
    assert {source[1] for _, source, _ in trains[:-1]} == {port(a)}
    assert trains[-1] == (b"x", (V4, port(c)), 1)
    assert len(trains) == 2


@pytest.mark.linux
@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.EIO, errno.EINVAL])
async def test_a_train_that_is_refused_goes_singly(opened, number):
    a, b = opened(V4), opened(V4)
    real = a._sock

    class WithoutTrains:
        def __getattr__(self, name):
            return getattr(real, name)

        def sendmsg(self, *_):
            raise OSError(number, os.strerror(number))

    a._sock = WithoutTrains()
    a.send_nowait(lay([bytes(100)] * 5, (V4, port(b))))
    assert len(await receive(b, 5)) == 5
    assert a._sends_trains is (number != errno.EINVAL)  # only this says "never"
    assert a.drops == {}
    a._sock = real


@needs_ipv6
async def test_one_socket_for_both_families(opened):
    both, four, six = opened(), opened(V4), opened(V6)
    four.send_nowait(lay([b"four"], (V4, port(both))))
    six.send_nowait(lay([b"six"], (V6, port(both))))
    got = dict(await receive(both, 2))
    assert got[b"four"][:2] == (f"::ffff:{V4}", port(four))
    assert got[b"six"][:2] == (V6, port(six))
    for address, answer in ((got[b"four"], b"4"), (got[b"six"], b"6")):
        both.send_nowait(lay([answer], address))
    both.send_nowait(lay([b"by its own name"], both.to_native(V4, port(four))))
    assert [data for data, _ in await receive(four, 2)] == [b"4", b"by its own name"]
    assert [data for data, _ in await receive(six, 1)] == [b"6"]


@needs_ipv6
async def test_an_ipv6_socket_takes_no_ipv4(opened):
    six, four = opened(V6), opened(V4)
    four.send_nowait(lay([b"x"], (V4, port(six))))
    six.send_nowait(lay([b"x"], six.to_native(V4, port(four))))
    assert six.drops == {"unreachable": 1}


async def test_a_batch_is_bounded(opened):
    a, b = opened(V4), opened(V4)
    for number in range(20):
        a.send_nowait(lay([bytes(number + 1)], (V4, port(b))))
    await b.wait_readable()
    assert len(b.receive_nowait(8)) == 8
    assert len(b.receive_nowait(64)) == 12
    assert b.receive_nowait(64) == []


@pytest.mark.linux
async def test_a_datagram_that_is_too_big(opened):
    a, b = opened(V4), opened(V4)
    there = (V4, port(b))
    a.send_nowait(lay([bytes(65_508), b"fits"], there))
    assert a.drops == {}
    assert list(a.refused) == [(there, 65_508, 1, "")]
    assert [data for data, _ in await receive(b, 1)] == [b"fits"]


class Refusing:
    """A socket whose sends and receives fail as told."""

    def __init__(self, real, error):
        self._real = real
        self._error = error

    def __getattr__(self, name):
        return getattr(self._real, name)

    def sendto(self, *_):
        raise self._error

    def sendmsg(self, *_):
        raise self._error

    def recvmsg_into(self, *_):
        raise self._error


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EADDRNOTAVAIL),
        *(errno.ENOBUFS, errno.ECONNREFUSED, errno.ENETDOWN),
    ],
    ids=errno.errorcode.get,
)
async def test_what_the_kernel_refuses_is_counted(opened, number):
    sock = opened(V4)
    real, sock._sock = sock._sock, Refusing(sock._sock, OSError(number, os.strerror(number)))
    sock.send_nowait(lay([b"x", b"y"], (V4, 1)))
    assert sock.drops == {"unreachable": 2}
    assert sock.receive_nowait(10) == []
    assert sock.drops == {"unreachable": 3}
    sock._sock = real


async def test_a_full_send_buffer_is_counted(opened):
    sock = opened(V4)
    real, sock._sock = sock._sock, Refusing(sock._sock, BlockingIOError())
    sock.send_nowait(lay([b"x"] * 3, (V4, 1)))
    assert sock.drops == {"socket_full": 3}
    assert sock.receive_nowait(10) == []
    sock._sock = real


async def test_nobody_there_harms_nothing(opened):
    """Linux tells a socket of a refusal with its next call; the one after that is good again."""
    a, b, gone = opened(V4), opened(V4), opened(V4)
    nowhere = (V4, port(gone))
    gone._sock.close()
    for _ in range(3):
        a.send_nowait(lay([b"x"], nowhere))
        a.receive_nowait(10)
    b.send_nowait(lay([b"still here"], (V4, port(a))))
    assert [data for data, _ in await receive(a, 1)] == [b"still here"]


@pytest.mark.linux
@pytest.mark.parametrize("host", [V4, pytest.param(V6, marks=needs_ipv6)])
@pytest.mark.parametrize("both", [False, pytest.param(True, marks=needs_ipv6)])
async def test_a_refusal_by_icmp_is_heard_and_stops_nothing_else(opened, host, both):
    a, b, gone = opened("" if both else host), opened(host), opened(host)
    nowhere, there = a.to_native(host, port(gone)), a.to_native(host, port(b))
    gone._sock.close()
    said = f"refused by {host}: ICMP port unreachable (nothing listens there, or a firewall " + (
        "rejects it)"
    )
    a.send_nowait([(b"x", nowhere, 1)])
    await a.wait_readable()
    assert a.receive_nowait(10) == []
    assert list(a.refused) == [(nowhere, 0, 0, said)]
    a.send_nowait([(b"x", nowhere, 1)])
    a.send_nowait([(b"one", there, 3), (b"two more", there, 4)])  # which meet what ICMP has said
    assert [data for data, _ in await receive(b, 3)] == [b"one", b"two ", b"more"]
    assert list(a.refused) == [(nowhere, 0, 0, said)] * 2
    assert a._sends_trains


async def test_a_socket_that_listens_hears_no_icmp(opened):
    a, gone = opened(V4, listens=True), opened(V4)
    nowhere = (V4, port(gone))
    gone._sock.close()
    for _ in range(3):
        a.send_nowait([(b"x", nowhere, 1)])
    assert a.receive_nowait(10) == []
    assert not a.refused
    assert a.drops == {}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENETUNREACH, "no route to 192.0.2.7"),
        (errno.EHOSTUNREACH, "no route to 192.0.2.7"),
        (errno.EPERM, "a local firewall rejects what goes to 192.0.2.7"),
        (errno.EACCES, "a local route or firewall rejects what goes to 192.0.2.7"),
    ],
)
async def test_who_cannot_be_sent_to_is_named_with_the_reason(opened, number, said):
    sock, there = opened(V4), ("192.0.2.7", 7450)
    real, sock._sock = sock._sock, Refusing(sock._sock, OSError(number, os.strerror(number)))
    sock.send_nowait([(b"abc", there, 1)])
    assert list(sock.refused) == [(there, 1, 3, said)]
    sock._sock = real


async def test_close_wakes_a_waiter(opened):
    sock = opened(V4)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait():
            with pytest.raises(trio.ClosedResourceError):
                await sock.wait_readable()

        await wait_all_tasks_blocked()
        sock.close()
        sock.close()
    with pytest.raises(trio.ClosedResourceError):
        await sock.wait_readable()
    with pytest.raises(trio.ClosedResourceError):
        sock.receive_nowait(1)
    with pytest.raises(trio.ClosedResourceError):
        sock.send_nowait(lay([b"x"], (V4, 1)))


async def test_buffers_are_enlarged(opened):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        usual = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert opened(V4).receive_buffer >= usual


@pytest.mark.linux
@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.EINVAL])
async def test_a_train_above_the_interface_is_refused_whole_and_asked_once(opened, number):
    """Kernels before 6.13 or so say EINVAL of such a train, as of trains that they do not know."""
    sock = opened(V4)
    real, asked = sock._sock, []

    class Interface:
        def __getattr__(self, name):
            return getattr(real, name)

        def sendmsg(self, *_):
            raise OSError(number, os.strerror(number))

        def sendto(self, datagram, _):
            asked.append(len(datagram))
            if len(datagram) > 1000:
                raise OSError(errno.EMSGSIZE, "Message too long")

    sock._sock = Interface()
    sock.send_nowait([(bytes(10 * 1400 + 500), (V4, 1), 1400)])
    assert list(sock.refused) == [((V4, 1), 1400, 10, "")]
    assert asked == [1400, 500]
    assert sock._sends_trains
    assert sock.drops == {}
    sock._sock = real


async def test_refusals_that_nobody_reads_are_bounded(opened):
    sock = opened(V4)
    sock.send_nowait([(bytes(65_508), (V4, 1), 65_508)] * 3000)
    assert len(sock.refused) == 1024


@pytest.mark.linux
@pytest.mark.parametrize(
    ("host", "level", "option"), [(V4, 0, 10), pytest.param(V6, 41, 23, marks=needs_ipv6)]
)
async def test_nobody_fragments(opened, host, level, option):
    probe = 3  # IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE
    assert opened(host)._sock.getsockopt(level, option) == probe


@pytest.mark.linux
@needs_ipv6
async def test_nobody_fragments_on_a_socket_for_both_families(opened):
    sock = opened()._sock
    assert sock.getsockopt(0, 10) == sock.getsockopt(41, 23) == 3


async def test_an_address_in_use(opened):
    sock = opened(V4)
    with pytest.raises(OSError, match="in use") as caught:
        opened(V4, port(sock))
    assert caught.value.errno == errno.EADDRINUSE


async def test_an_address_that_is_not_ours(opened):
    with pytest.raises(OSError) as caught:
        opened("192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.linux
@pytest.mark.skipif(os.geteuid() != 0, reason="binding to a device needs root")
async def test_bound_to_a_device(opened):
    a, b = opened(V4, device="lo"), opened(V4)
    a.send_nowait(lay([b"x"], (V4, port(b))))
    assert [data for data, _ in await receive(b, 1)] == [b"x"]
    a.send_nowait(lay([b"not this way"], ("192.0.2.1", 9)))
    with pytest.raises(OSError) as caught:
        opened(V4, device="nosuchdevice")
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("host", [V4, pytest.param(V6, marks=needs_ipv6)])
async def test_a_session_over_the_loopback(autojump_clock, host):
    identity, client_key = PrivateKey.generate(), PrivateKey.generate()
    known = KnownPeers({client_key.public: Grant()})

    async def echo(channel):
        with suppress(ChannelBroken):
            while True:
                await channel.send(await channel.receive())

    sock = open_udp()
    async with open_endpoint(sock, identity, authority=known) as server:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, echo)
            client_sock = open_udp(host)
            async with open_endpoint(client_sock, client_key) as client:
                assert isinstance(client, Endpoint)
                address = client_sock.to_native(host, port(sock))
                channel = await client.connect(Peer(identity.public), [address])
                assert channel.remote.endswith(f":{port(sock)}")
                messages = [bytes([number]) * 1376 for number in range(50)]
                await channel.send(messages)
                got = []
                while len(got) < len(messages):
                    got += await channel.receive()
                assert got == messages
                await channel.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.linux
@needs_ipv6
@pytest.mark.parametrize(
    ("every", "asked"),
    [("", "127.0.0.2"), ("", "127.0.0.3"), ("", V6), ("0.0.0.0", "127.0.0.2")],
)
@pytest.mark.parametrize("count", [1, 20])
async def test_answers_leave_from_the_address_that_was_asked(opened, every, asked, count):
    switch = opened(every, listens=True)
    peer = opened(asked if ":" in asked else V4)
    run = [bytes([number]) * 500 for number in range(count)]
    peer.send_nowait(lay(run, (asked, port(switch))))
    ((_, sender), *_) = await receive(switch, count)
    switch.send_nowait(lay(run, sender))
    answers = await receive(peer, count)
    assert [data for data, _ in answers] == run
    assert {whence[:2] for _, whence in answers} == {(asked, port(switch))}
    assert switch._sends_trains
    assert switch.drops == {}


@pytest.mark.linux
async def test_what_came_to_two_addresses_is_told_apart(opened):
    switch, peer = opened("", listens=True), opened(V4)
    for asked in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.2"):
        peer.send_nowait([(b"x" * 100, (asked, port(switch)), 100)])
    senders = [sender for _, sender in await receive(switch, 4)]
    assert senders[0] == senders[1] == senders[3] != senders[2]
    assert len({sender[:4] for sender in senders}) == 1


@pytest.mark.linux
async def test_an_address_that_is_gone_costs_what_goes_there_and_nothing_else(opened):
    switch, peer = opened("", listens=True), opened(V4)
    gone = bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.1") + bytes(4)
    there = switch.to_native(V4, port(peer))
    switch.send_nowait(lay([bytes(100)] * 3, (*there, ((41, 50, gone),))))
    assert switch.drops == {"unreachable": 3}
    assert switch._sends_trains
    switch.send_nowait(lay([bytes(100)] * 3, there))
    assert len(await receive(peer, 3)) == 3


async def test_a_socket_that_asks_leaves_the_source_to_the_routes(opened):
    asking, other = opened(), opened(V4)
    other.send_nowait([(b"x", (V4, port(asking)), 1)])
    ((_, sender),) = await receive(asking, 1)
    assert len(sender) == 4
