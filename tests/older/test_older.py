"""This version with the last one before hybrid handshakes, whose side is a recording.

What is recorded holds only while this side says the same as then, so that is looked at, too. Where
it says something else on purpose, record anew (`__main__.py`), and see that `known` is still right.
"""

import json

import pytest

from tests.older.conversation import HELLO, RECORDED, Conversation, fixed_ephemerals
from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.handshake.initiator import Connected, Refused
from transport.handshake.responder import Accepted
from transport.wire.datagrams import Result, Suite

REQUIRE, AUTO, OFF = PostQuantum.REQUIRE, PostQuantum.AUTO, PostQuantum.OFF
ALL = {
    (each["older"], each["suite"], each["pq"]): each for each in json.loads(RECORDED.read_text())
}

both_suites = pytest.mark.parametrize("suite", list(Suite))


@pytest.fixture
def hold(monkeypatch):
    """A conversation with the recorded side, and what that knew at the end."""

    def held(role, suite, wish):
        monkeypatch.setattr(PrivateKey, "generate", fixed_ephemerals())
        record = ALL[role, suite.name, wish.value]
        answers = {
            int(step): [bytes.fromhex(each) for each in sent]
            for step, sent in record["answers"].items()
        }
        steps = iter(range(10**6))
        conversation = Conversation(role, suite, wish)
        conversation.hold(lambda _: answers.get(next(steps), []))
        assert [data.hex() for data in conversation.asked] == record["asked"]
        return conversation, record["known"]

    return held


@both_suites
@pytest.mark.parametrize("wish", [AUTO, OFF])
@pytest.mark.parametrize(("role", "event"), [("member", Accepted), ("switch", Connected)])
def test_a_session_without_post_quantum_both_ways(hold, role, event, suite, wish):
    conversation, known = hold(role, suite, wish)
    assert [type(each) for each in conversation.events] == [event]
    assert not conversation.hybrid
    assert conversation.read == [b"from the older one"]
    assert known["read"] == [HELLO.decode()]
    assert known["events"] == ["Connected" if role == "member" else "Accepted"]


@both_suites
def test_a_switch_that_requires_it_takes_no_older_member(hold, suite):
    conversation, known = hold("member", suite, REQUIRE)
    assert conversation.events == []
    assert (conversation.host.demux.sessions, conversation.host.demux.half_open) == (0, 0)
    assert known["events"] == []  # it goes on trying
    assert known["drops"]["malformed"] == 1


@both_suites
def test_a_member_that_requires_it_refuses_an_older_switch(hold, suite):
    conversation, known = hold("switch", suite, REQUIRE)
    (event,) = conversation.events
    assert isinstance(event, Refused)
    assert event.result is Result.HYBRID
    assert conversation.host.demux.sessions == 0
    assert known["events"] == []
