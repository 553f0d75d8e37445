"""Questions to resolvers outside, from sockets of the switch's host.

Each question has a socket of its own, connected, with a port that the kernel draws, and an id of
its own: who wants to answer in place of the resolver has to guess both within `PATIENCE`, and must
have its address (RFC 5452). What does not fit is asked for again over TCP.

Error contract: nothing raises; no answer is None.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import trio

from vswitch.addresses import HostPort
from vswitch.config.addressing import to_name_server
from vswitch.errors import BadRecord
from vswitch.services.name_settings import DNS_PORT
from vswitch.services.names import NamesDrop

PATIENCE = 2.0  # seconds for one resolver
TRIES = 2  # resolvers asked, one after the other; the same one twice if there is no other
PAYLOAD = 1232  # bytes of an answer over UDP, which no path cuts (DNS flag day 2020)
RESOLV_CONF = Path("/etc/resolv.conf")


def servers_of(forward: Sequence[str], own: IPv4Address) -> Callable[[], list[HostPort]]:
    """Who is to be asked, at each moment; never this server itself, at its address `own`."""
    if forward != ("system",):
        fixed = [to_name_server(each) for each in forward]
        return lambda: fixed
    return lambda: system_servers(RESOLV_CONF, own)


def system_servers(path: Path, own: IPv4Address) -> list[HostPort]:
    """The name servers of this host, as its file says now."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        match line.split():
            case ["nameserver", word, *_]:
                pass
            case _:
                continue
        try:
            address = ipaddress.ip_address(word.partition("%")[0])
        except ValueError:
            continue
        if address != own:
            found.append(HostPort(word, DNS_PORT))
    return found


class Upstream:
    """The resolvers of one name server."""

    def __init__(self, servers: Callable[[], Sequence[HostPort]], drops: Counter[str]) -> None:
        self._servers = servers
        self._drops = drops

    async def ask(self, query: dns.message.Message) -> dns.message.Message | None:
        """What a resolver says to the question of a query."""
        asked = dns.message.make_query(
            query.question[0].name,
            query.question[0].rdtype,
            use_edns=0,
            payload=PAYLOAD,
            want_dnssec=bool(query.ednsflags & dns.flags.DO),
        )
        asked.flags |= query.flags & dns.flags.CD
        servers = self._servers()
        for number in range(TRIES if servers else 0):
            server = servers[number % len(servers)]
            try:
                with trio.move_on_after(PATIENCE):
                    said = await self._udp(server, asked)
                    if said.flags & dns.flags.TC:
                        said = await self._tcp(server, asked)
                    return said
            except (OSError, BadRecord, trio.BrokenResourceError):
                continue  # nobody there, or nothing that makes sense: another one
        return None

    async def _udp(self, server: HostPort, asked: dns.message.Message) -> dns.message.Message:
        family = trio.socket.AF_INET6 if ":" in server.host else trio.socket.AF_INET
        with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
            await sock.connect((server.host, server.port))
            await sock.send(asked.to_wire())
            while True:
                try:
                    return answer_untrusted(await sock.recv(65_535), asked)
                except BadRecord:
                    self._drops[NamesDrop.NAMES_SPOOFED] += 1

    async def _tcp(self, server: HostPort, asked: dns.message.Message) -> dns.message.Message:
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            await stream.send_all(asked.to_wire(prepend_length=True))
            size = int.from_bytes(await _exactly(stream, 2))
            return answer_untrusted(await _exactly(stream, size), asked)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise BadRecord("ends inside an answer")
        data += more
    return data


def answer_untrusted(wire: bytes, asked: dns.message.Message) -> dns.message.Message:
    """The answer to this question; `BadRecord` for anything else."""
    try:
        said = dns.message.from_wire(wire)
        fits = asked.is_response(said)
    except Exception as error:
        # Whatever a library raises for bytes from outside is the fault of these bytes.
        raise BadRecord(f"no DNS message: {error}") from error
    if not fits or said.question != asked.question:
        raise BadRecord("no answer to what was asked")
    return said
