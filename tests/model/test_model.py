"""A search of a small depth from every beginning; and that it finds a rule that is broken."""

import pytest

from tests.model import world as model
from tests.model.__main__ import main
from tests.model.explore import ROOTS, Trace, begin, explore
from tests.model.world import World
from transport.crypto.kem import PostQuantum
from transport.crypto.replay import ReplayWindow
from transport.handshake.admission import Grant
from transport.handshake.initiator import Initiator
from transport.handshake.reset import Resets
from transport.handshake.responder import HalfOpenTable, Responder
from transport.path.address import PathTable
from transport.session.session import Session
from transport.testing.cores import KnownPeers
from transport.wire.control import CloseCode


@pytest.mark.parametrize("root", ROOTS)
def test_nothing_is_violated(root):
    found = explore(root, 1, 1000)
    assert found.complete
    assert found.states > 5


DEEPER = (
    *("half-open", "said", "rekey agreed", "moved, challenged", "restarted", "reset"),
    *("asked twice", "in slices"),
)


@pytest.mark.parametrize("root", DEEPER)
def test_nothing_is_violated_in_two_steps(root):
    found = explore(root, 2, 1000)
    assert found.complete
    assert found.states > 50
    assert found.done.keys() >= {"deliver", "from elsewhere", "half-open"}


def test_the_same_is_found_each_time():
    assert explore("said", 1, 1000) == explore("said", 1, 1000)


def test_a_limit_of_states_is_told():
    assert not explore("connected", 2, 30).complete


def test_the_beginnings_are_what_they_say():
    for root, live in (("agreed", (1, 0)), ("connected", (1, 1)), ("reset", (1, 0))):
        world = begin(root, World)
        assert (len(world.live(world.client)), len(world.live(world.server))) == live
    assert begin("half-open", World).server.demux.half_open == 1
    challenged = begin("moved, challenged", World)
    assert challenged.server.session.paths.current != challenged.client.address


def test_the_command(capsys):
    assert main(["--depth", "1", "--root", "connected", "moved"]) == 0
    assert "0 violations" in capsys.readouterr().out


# --- Rules that are broken on purpose ----------------------------------------------------------


def violated(root: str, depth: int = 1) -> str:
    with pytest.raises(Trace) as caught:
        explore(root, depth, 5000)
    return str(caught.value)


def test_without_a_replay_window(monkeypatch):
    monkeypatch.setattr(ReplayWindow, "check", lambda self, counter: True)
    assert "data that was taken twice" in violated("said", 2)


def test_an_address_that_need_not_prove_itself(monkeypatch):
    monkeypatch.setattr(
        PathTable, "observe", lambda self, address, size, now: self.moved(address, now)
    )
    assert "proven nothing" in violated("said")


def test_a_challenge_that_any_answer_meets(monkeypatch):
    def answered(self, data, address, now):
        self.moved(address, now)
        return True

    monkeypatch.setattr(PathTable, "answered", answered)
    assert "proven nothing" in violated("moved, challenged", 2)


def test_more_than_an_unproven_address_may_get(monkeypatch):
    monkeypatch.setattr(model, "AMPLIFICATION", 0.9)
    assert "from an unproven address" in violated("said")


def test_a_reset_that_is_believed_at_once(monkeypatch):
    def receive(self, datagram, now):
        for session in self.sessions:
            session.fail(CloseCode.TIMEOUT, "the peer has lost the session")
        return next(iter(self._negotiations))

    monkeypatch.setattr(Initiator, "receive_reset_untrusted", receive)
    assert "a session ended that the peer has" in violated("rekey")


def test_a_reset_that_is_larger_than_its_cause(monkeypatch):
    long = bytes((6,)) + bytes(200)
    monkeypatch.setattr(Resets, "answer", lambda self, index, address, now: long)
    assert "larger than what caused it" in violated("restarted")


def test_a_switch_that_does_without_ml_kem():
    with pytest.raises(Trace, match="a session without ML-KEM-768"):
        explore("asked twice", 3, 5000, lambda: World(PostQuantum.OFF))


def test_a_switch_that_forgets_to_ask_for_it_is_not_believed(monkeypatch):
    monkeypatch.setattr(Responder, "_wants_hybrid", lambda self, admitted: False)
    assert explore("asked twice", 2, 5000).complete


def test_a_stranger_that_is_let_in(monkeypatch):
    monkeypatch.setattr(KnownPeers, "look_up", lambda self, peer, credential: Grant())
    assert "a session of a stranger" in violated("nothing")


def test_two_sessions_of_one_key(monkeypatch):
    close = Session.close

    def not_if_replaced(self, code, reason, now):
        if code != CloseCode.REPLACED:
            close(self, code, reason, now)

    monkeypatch.setattr(Session, "close", not_if_replaced)
    assert "two live sessions of one key" in violated("connecting again")


def test_a_session_that_an_init_replaces(monkeypatch):
    """As if it counted before it is confirmed."""
    receive = Responder.receive_init_untrusted

    def at_once(self, datagram, address, now):
        response = receive(self, datagram, address, now)
        for session in self.sessions.values():
            session.close(CloseCode.REPLACED, "an init has come", now)
        return response

    monkeypatch.setattr(Responder, "receive_init_untrusted", at_once)
    assert "replaced by nothing" in violated("rekey")


def test_a_session_that_ends_when_it_is_heard_from_elsewhere(monkeypatch):
    receive = Session.receive_trains

    def strictly(self, trains, address, now):
        receive(self, trains, address, now)
        if address != self.paths.current:
            self.fail(CloseCode.NORMAL, "from elsewhere")

    monkeypatch.setattr(Session, "receive_trains", strictly)
    assert "ended by its peer, which still has it" in violated("said")


def test_half_open_handshakes_that_never_end(monkeypatch):
    """Whoever is held up once stays out: what recovery is tried for."""
    monkeypatch.setattr(HalfOpenTable, "expiry", lambda now: now + 1e6)
    monkeypatch.setattr(HalfOpenTable, "full_for", lambda self, peer: len(self) > 0)
    assert "not together again" in violated("half-open", 2)
