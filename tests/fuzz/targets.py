"""The targets by name, and what each is given to begin with."""

from collections.abc import Callable, Iterable

from attrs import frozen

from tests.fuzz import (
    api,
    decoders,
    foreign,
    frames,
    handshake,
    kcp_clients,
    leases,
    members,
    parity,
    services,
    session,
    sockets,
    switch,
    web,
)

Seeds = Iterable[tuple[str, bytes]]


@frozen
class Target:
    """What hostile bytes are given to."""

    run: Callable[[bytes], None]  # raises when an invariant is broken
    seeds: Callable[[], Seeds]  # inputs by name, made by the encoders
    iterations: int  # of a test run: some three seconds


TARGETS = {
    "decoders": Target(decoders.run, decoders.seeds, 20_000),
    "texts": Target(decoders.run_text, decoders.text_seeds, 10_000),
    "frames": Target(frames.run, frames.seeds, 10_000),
    "control": Target(members.run_control, members.control_seeds, 10_000),
    "records": Target(members.run_records, members.record_seeds, 3_000),
    "handshake": Target(handshake.run, handshake.seeds, 200),
    "parity": Target(parity.run, parity.seeds, 300),
    "session": Target(session.run, session.seeds, 500),
    "switch": Target(switch.run, switch.seeds, 400),
    "foreign": Target(foreign.run, foreign.seeds, 4_000),
    "sockets": Target(sockets.run, sockets.seeds, 1_500),
    "kcp": Target(kcp_clients.run, kcp_clients.seeds, 800),
    "websocket": Target(web.run_frames, web.frame_seeds, 3_000),
    "answers": Target(web.run_answers, web.answer_seeds, 3_000),
    "web": Target(web.run_server, web.server_seeds, 500),
    "host": Target(services.run_host, services.host_seeds, 3_000),
    "leases": Target(leases.run_leases, leases.leases_seeds, 2_000),
    "names": Target(services.run_names, services.names_seeds, 4_000),
    "api": Target(api.run, api.seeds, 300),
    "listener": Target(sockets.run_bench, sockets.bench_seeds, 2_000),
}


def _planted(data: bytes) -> None:
    """A fault that a search has to find; for a test."""
    assert not (len(data) > 3 and data[0] == 0x7F), "a planted fault"


PLANTED = {"planted": Target(_planted, lambda: [("harmless", b"\0\0\0\0\0")], 1_000)}
ALL = {**TARGETS, **PLANTED}

# Faults that are not mended yet, by target, or by target and file of the corpus: tests expect them,
# and a search that comes upon them says so and goes on.
KNOWN: dict[str, str] = {}
