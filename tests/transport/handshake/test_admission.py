"""The gate: what an init has to pass, in which order, and what it costs."""

import pytest

from transport.constants import COOKIE_REPLY_SIZE, INIT_SIZE
from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NO_PSK
from transport.errors import BadPacket
from transport.handshake import admission as admission_module
from transport.handshake.admission import (
    ANSWERED_INITS,
    ANSWERS_PER_INIT,
    COOKIE_REPLIES_PER_ADDRESS,
    COOKIE_REPLIES_TOTAL,
    HANDSHAKE_BURST_PER_ADDRESS,
    HANDSHAKES_PER_ADDRESS,
    LOAD_THRESHOLD,
    PROVEN_HANDSHAKE_BURST,
    PROVEN_HANDSHAKES,
    PROVEN_MEMORY,
    REFUSALS_PER_KEY,
    Admission,
    Grant,
    ReplyDue,
)
from transport.handshake.cookie import MacStamper
from transport.handshake.messages import NO_CREDENTIAL, Initiation, Peer
from transport.testing.cores import KnownPeers
from transport.wire.datagrams import Credential, CredentialKind, InitPayload, Result, Suite

CLIENT = PrivateKey.from_raw(b"\x11" * 32)
SERVER = PrivateKey.from_raw(b"\x22" * 32)
STRANGER = PrivateKey.from_raw(b"\x44" * 32)
TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")
PSK = b"\x33" * 32
HERE = ("192.0.2.1", 41022)
OTHER = ("192.0.2.2", 41022)
BURST = int(HANDSHAKE_BURST_PER_ADDRESS)


class Sender:
    """A client that makes inits, and keeps the cookie it got."""

    def __init__(self, identity=CLIENT, credential=NO_CREDENTIAL, psk=NO_PSK, server=SERVER):
        self.identity = identity
        self.peer = Peer(server.public, credential, psk)
        self.stamper = MacStamper(server.public.raw)

    def init(self, timestamp_ns=1, now=0.0, *, cookie=True):
        echo = (self.stamper.cookie(now) if cookie else None) or bytes(16)
        payload = InitPayload(timestamp_ns=timestamp_ns, cookie_echo=echo, receive_window=128)
        initiation = Initiation(self.identity, self.peer, Suite.CHACHAPOLY, 0xA0)
        stamper = self.stamper if cookie else MacStamper(self.peer.key.raw)
        return stamper.stamp(initiation.init(payload), now)


@pytest.fixture
def known():
    return KnownPeers({CLIENT.public: Grant()}, {TOKEN: Grant(PSK)})


@pytest.fixture
def gate(known):
    numbers = iter(range(1, 100_000))
    return Admission(SERVER, known, 0.0, lambda size: next(numbers).to_bytes(size, "big"))


def refusal(gate, init, address=HERE, now=0.0):
    with pytest.raises(BadPacket) as caught:
        gate.admit_untrusted(init, address, now)
    return caught.value


def reason(*arguments):
    return refusal(*arguments).reason


def test_somebody_known_is_admitted(gate, known):
    admitted = gate.admit_untrusted(Sender().init(), HERE, 0.0)
    assert admitted.peer == CLIENT.public
    assert admitted.result is Result.OK
    assert not admitted.proven_address
    assert known.asked == 1


def test_a_malformed_init_is_not_looked_up(gate, known):
    init = bytearray(Sender().init())
    assert reason(gate, bytes(init[:-1])) == "malformed"
    init[1] = 2
    assert reason(gate, bytes(init)) == "bad_version"
    assert known.asked == 0


def test_an_init_with_a_wrong_mac1_is_not_looked_up_and_drains_no_bucket(gate, known):
    wrong = Sender(server=STRANGER).init()
    for _ in range(3 * BURST):  # and no bucket is drained
        assert reason(gate, wrong) == "bad_mac1"
    assert gate.admit_untrusted(Sender().init(), HERE, 0.0)
    assert known.asked == 1


def test_a_stranger_is_met_with_silence(gate):
    caught = refusal(gate, Sender(STRANGER).init())
    assert caught.reason == "unknown_peer"
    assert not isinstance(caught, ReplyDue)


def test_a_credential_opens_the_gate_for_a_new_key(gate):
    init = Sender(STRANGER, TOKEN, PSK).init()
    assert gate.admit_untrusted(init, HERE, 0.0).peer == STRANGER.public


@pytest.mark.parametrize("psk", [NO_PSK, b"\x34" * 32], ids=["none", "another"])
def test_a_credential_without_its_secret_is_met_with_silence(gate, psk):
    caught = refusal(gate, Sender(STRANGER, TOKEN, psk).init())
    assert caught.reason == "bad_handshake"
    assert not isinstance(caught, ReplyDue)


def test_a_key_that_is_claimed_and_not_owned(gate):
    """A stranger cannot make an init that claims the key of somebody known: it needs ss."""
    init = bytearray(Sender().init())
    other = Sender(STRANGER).init()
    init[96:200] = other[96:200]
    init[200:] = MacStamper(SERVER.public.raw).stamp(bytes(init[:200]), 0.0)[200:]
    assert reason(gate, bytes(init)) == "bad_handshake"


def test_a_low_order_point(gate):
    init = bytearray(Sender().init())
    init[16:48] = bytes(32)
    stamped = MacStamper(SERVER.public.raw).stamp(bytes(init[:200]), 0.0)
    assert reason(gate, stamped) == "low_order_point"


def test_the_authority_may_refuse(gate, known):
    known.keys[CLIENT.public] = Grant(result=Result.REVOKED)
    assert gate.admit_untrusted(Sender().init(), HERE, 0.0).result is Result.REVOKED


# --- Rates -----------------------------------------------------------------------------------


def test_a_bucket_for_each_address(gate):
    sender = Sender()
    for _ in range(BURST):
        gate.admit_untrusted(sender.init(), HERE, 0.0)
    assert reason(gate, sender.init()) == "rate_limited"
    assert reason(gate, sender.init(), (HERE[0], 999)) == "rate_limited"  # not for each port
    assert gate.admit_untrusted(sender.init(), OTHER, 0.0)
    now = 1 / HANDSHAKES_PER_ADDRESS
    assert gate.admit_untrusted(sender.init(), HERE, now)
    assert reason(gate, sender.init(), HERE, now) == "rate_limited"


def test_a_host_over_its_rate_is_given_a_cookie_and_admitted_with_it(gate):
    """Many members behind one address: the second try, at once, has a larger bucket."""
    members = [Sender() for _ in range(200)]
    for number, member in enumerate(members[:BURST]):
        gate.admit_untrusted(member.init(), (HERE[0], number), 0.0)
    for number, member in enumerate(members[BURST:]):
        here = (HERE[0], 1000 + number)
        due = refusal(gate, member.init(), here)
        assert due.reason == "rate_limited"
        member.stamper.consume_reply_untrusted(due.replies[0], 0.0)
        assert gate.admit_untrusted(member.init(), here, 0.0).proven_address


def proven(gate, address, identity=CLIENT):
    """An init with a true mac2."""
    sender = Sender(identity)
    header = admission_module.decode_init_untrusted(sender.init())
    due = gate.cookie_for(gate._own[0], header, "bad_mac2", address, 0.0)
    sender.stamper.consume_reply_untrusted(due.replies[0], 0.0)
    return sender.init()


def test_with_cookies_too_an_address_is_limited(gate):
    init, refused, admitted = proven(gate, HERE), set(), 0
    for number in range(3000):
        try:
            admitted += gate.admit_untrusted(init, HERE, number / 1000) is not None
        except BadPacket as bad:
            refused.add((bad.reason, isinstance(bad, ReplyDue)))
    assert refused == {("proven_limited", False)}
    # Half of the bucket at once; and in the end what is forgotten of it while it is full.
    most = PROVEN_HANDSHAKE_BURST + 3 * PROVEN_HANDSHAKE_BURST / PROVEN_MEMORY
    assert most / 2 <= admitted <= most


def test_many_addresses_with_cookies_cause_no_more_key_exchanges_than_all_may(gate, known):
    """A stranger's few dozen addresses, 2,400 inits a second: each is a key exchange."""
    inits = [(proven(gate, (f"10.0.0.{n}", 1), STRANGER), (f"10.0.0.{n}", 1)) for n in range(24)]
    exchanges, seconds = 0, 4
    for number in range(2400 * seconds):
        init, address = inits[number % len(inits)]
        exchanges += refusal(gate, init, address, number / 2400).reason == "unknown_peer"
    most = PROVEN_HANDSHAKE_BURST + PROVEN_HANDSHAKES * seconds
    assert 0.9 * most <= exchanges <= most
    # Meanwhile somebody honest is let in, and so are twenty behind one address.
    now = float(seconds)
    for _ in range(20):
        assert gate.admit_untrusted(proven(gate, HERE), HERE, now).proven_address


def test_an_answered_init_is_answered_with_the_same_bytes_a_few_times_only(gate, known):
    init = Sender().init()
    header = gate.admit_untrusted(init, HERE, 0.0).header
    gate.answered(header, HERE, (b"response",), 5.0)
    again = [refusal(gate, init, HERE, 0.1) for _ in range(3 * ANSWERS_PER_INIT)]
    assert {each.reason for each in again} == {"repeated_init"}
    answers = [each.replies[0] for each in again if isinstance(each, ReplyDue)]
    assert answers == [b"response"] * (ANSWERS_PER_INIT - 1)
    assert known.asked == 1  # none of them has cost a key exchange


def test_an_answer_that_is_good_no_more_is_not_given_again(gate):
    init = Sender().init()
    gate.answered(gate.admit_untrusted(init, HERE, 0.0).header, HERE, b"response", 5.0)
    caught = refusal(gate, init, HERE, 5.0)
    assert caught.reason == "repeated_init"
    assert not isinstance(caught, ReplyDue)


def test_a_copy_from_elsewhere_does_not_stand_for_the_original(gate):
    init = Sender().init()
    gate.answered(gate.admit_untrusted(init, OTHER, 0.0).header, OTHER, b"response", 5.0)
    assert gate.admit_untrusted(init, HERE, 0.0)


def test_answers_are_remembered_within_bounds(gate):
    init = Sender().init()
    header = gate.admit_untrusted(init, HERE, 0.0).header
    for port in range(ANSWERED_INITS + 1):
        gate.answered(header, (HERE[0], port), b"response", 5.0)
    assert len(gate._answers) == ANSWERED_INITS
    assert refusal(gate, init, (HERE[0], ANSWERED_INITS)).reason == "repeated_init"
    assert gate.admit_untrusted(init, (HERE[0], 0), 0.0)


def test_a_key_gets_one_answer_a_second_with_which_nothing_begins(gate):
    """From however many addresses, with however many different inits; and with a proof one more."""
    refused, reasons = 0, set()
    for number in range(100):
        address = (f"10.0.0.{number}", 1)
        admitted = gate.admit_untrusted(Sender().init(), address, number / 20)
        try:
            gate.refuse(admitted, address, number / 20)
            refused += 1
        except ReplyDue as due:
            reasons.add(due.reason)
    assert reasons == {"refusal_limited"}
    assert refused == 5 * REFUSALS_PER_KEY
    now = 5.0 - 1e-3
    for each, admits in ((HERE, True), (OTHER, False)):
        admitted = gate.admit_untrusted(proven(gate, each), each, now)
        if admits:
            gate.refuse(admitted, each, now)
            continue
        with pytest.raises(BadPacket) as caught:
            gate.refuse(admitted, each, now)
        assert (caught.value.reason, type(caught.value)) == ("refusal_limited", BadPacket)


def test_a_flood_of_forged_addresses(gate, known):
    """R20: 20,000 inits a second that anybody could make who has seen an invite."""
    init, wrong = Sender(STRANGER).init(), b"\x01" * 16
    replies = 0
    for number in range(60_000):
        source = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
        data = init[:-16] + wrong if number % 2 else init
        try:
            gate.admit_untrusted(data, source, number / 20_000)
        except BadPacket as bad:
            replies += isinstance(bad, ReplyDue)
    assert known.asked <= LOAD_THRESHOLD * 4  # X25519s in three seconds
    assert replies <= COOKIE_REPLIES_TOTAL * 4
    # Meanwhile somebody honest needs some cookies and tries, of which half are answered.
    assert replies >= 0.45 * 60_000


def test_a_bucket_for_each_ipv6_network(gate):
    sender = Sender()
    for host in range(BURST):
        gate.admit_untrusted(sender.init(), (f"2001:db8::{host:x}", 1, 0, 0), 0.0)
    assert reason(gate, sender.init(), ("2001:db8::ffff", 1, 0, 0)) == "rate_limited"
    assert gate.admit_untrusted(sender.init(), ("2001:db8:0:1::1", 1, 0, 0), 0.0)


def test_mapped_addresses_are_ipv4(gate):
    sender = Sender()
    for _ in range(BURST):
        gate.admit_untrusted(sender.init(), (f"::ffff:{HERE[0]}", 1, 0, 0), 0.0)
    assert reason(gate, sender.init()) == "rate_limited"
    assert gate.admit_untrusted(sender.init(), ("::ffff:192.0.2.77", 1, 0, 0), 0.0)


def flood(gate, count, init):
    """Inits from many addresses in one moment."""
    reasons = []
    for number in range(count):
        try:
            gate.admit_untrusted(init, (f"10.0.{number // 250}.{number % 250}", 1), 0.0)
        except BadPacket as bad:
            reasons.append(bad)
    return reasons


def test_under_load_all_must_prove_their_address(gate, known):
    init = Sender(STRANGER).init()
    calm, rest = int(LOAD_THRESHOLD), 20
    caught = flood(gate, calm + rest, init)
    assert [bad.reason for bad in caught[:calm]] == ["unknown_peer"] * calm
    assert [bad.reason for bad in caught[calm:]] == ["bad_mac2"] * rest
    assert known.asked == calm  # no key exchange beyond that
    assert {len(bad.replies[0]) for bad in caught[calm:]} == {COOKIE_REPLY_SIZE}
    assert COOKIE_REPLY_SIZE < INIT_SIZE


def test_under_load_a_cookie_lets_the_owner_of_an_address_in(gate):
    flood(gate, int(LOAD_THRESHOLD), Sender(STRANGER).init())
    sender = Sender()
    caught = refusal(gate, sender.init())
    assert caught.reason == "bad_mac2"
    sender.stamper.consume_reply_untrusted(caught.replies[0], 0.0)
    assert refusal(gate, sender.init(), OTHER).reason == "bad_mac2"  # not from elsewhere
    assert refusal(gate, sender.init(), (HERE[0], 1)).reason == "bad_mac2"
    assert gate.admit_untrusted(sender.init(), HERE, 0.0).proven_address


def test_cookie_replies_to_one_address_are_limited(gate):
    """Though a flood through it, of proven strangers, could take no more than the bucket."""
    flood(gate, int(LOAD_THRESHOLD), Sender(STRANGER).init())
    sender, now, replies = Sender(), 0.0, 0
    reasons = set()
    header = admission_module.decode_init_untrusted(sender.init())
    for _ in range(2000):
        caught = gate.cookie_for(gate._own[0], header, "bad_mac2", HERE, now)
        replies += isinstance(caught, ReplyDue)
        reasons.add(caught.reason)
        now += 0.001
    assert reasons == {"bad_mac2", "cookie_limited"}
    assert COOKIE_REPLIES_PER_ADDRESS <= replies <= COOKIE_REPLIES_PER_ADDRESS * 3


def test_cookie_replies_in_all_are_limited(gate, monkeypatch):
    monkeypatch.setattr(admission_module, "COOKIE_REPLIES_TOTAL", 30.0)
    gate = Admission(SERVER, KnownPeers(), 0.0, bytes)
    caught = flood(gate, int(LOAD_THRESHOLD) + 50, Sender(STRANGER).init())
    assert [bad.reason for bad in caught].count("bad_mac2") == 30
    assert [bad.reason for bad in caught].count("cookie_limited") == 20


# --- Freshness -------------------------------------------------------------------------------


def test_an_init_no_newer_than_the_last_confirmed_needs_a_cookie(gate):
    gate.confirmed(CLIENT.public, 100)
    sender = Sender()
    for timestamp in (100, 99, 0):
        caught = refusal(gate, sender.init(timestamp, cookie=False))
        assert caught.reason == "stale_timestamp"
        assert isinstance(caught, ReplyDue)
    assert gate.admit_untrusted(sender.init(101), HERE, 0.0)


def test_a_clock_that_went_backwards_costs_one_round_trip(gate):
    gate.confirmed(CLIENT.public, 10**18)
    sender = Sender()
    caught = refusal(gate, sender.init(5))
    sender.stamper.consume_reply_untrusted(caught.replies[0], 0.0)
    assert gate.admit_untrusted(sender.init(6), HERE, 0.0).proven_address
    assert refusal(gate, sender.init(7), OTHER).reason == "stale_timestamp"


def test_an_unconfirmed_timestamp_blocks_nobody(gate):
    """A replayed init, or one with a time far ahead, must not lock its owner out."""
    gate.admit_untrusted(Sender().init(2**63), HERE, 0.0)
    assert gate.admit_untrusted(Sender().init(5), HERE, 0.0)


def test_confirmations_in_any_order_keep_the_newest(gate):
    gate.confirmed(CLIENT.public, 100)
    gate.confirmed(CLIENT.public, 50)
    assert reason(gate, Sender().init(100)) == "stale_timestamp"


def test_remembered_timestamps_are_bounded(gate, monkeypatch):
    monkeypatch.setattr(admission_module, "CONFIRMED_TIMESTAMPS", 10)
    gate.confirmed(CLIENT.public, 100)
    for number in range(9):
        gate.confirmed(PrivateKey.from_raw(bytes([number + 1]) * 32).public, 1)
    gate.confirmed(CLIENT.public, 100)  # used again: not the one to be forgotten
    gate.confirmed(STRANGER.public, 1)
    assert len(gate._confirmed) == 10
    assert reason(gate, Sender().init(100)) == "stale_timestamp"


# --- Two identities ------------------------------------------------------------------------------


@pytest.fixture
def renewed(gate):
    """A gate whose key was `SERVER` before, and is `STRANGER` now."""
    gate.set_identities([STRANGER, SERVER])
    return gate


@pytest.mark.parametrize("server", [SERVER, STRANGER])
def test_an_init_for_either_identity_is_admitted(renewed, server):
    admitted = renewed.admit_untrusted(Sender(server=server).init(), HERE, 0.0)
    assert admitted.peer == CLIENT.public
    assert admitted.own.identity is server


def test_an_init_for_neither_is_a_wrong_mac1(renewed, known):
    assert reason(renewed, Sender(server=CLIENT).init()) == "bad_mac1"
    assert known.asked == 0


@pytest.mark.parametrize("server", [SERVER, STRANGER])
def test_each_identity_has_its_own_cookies(renewed, server):
    sender = Sender(server=server)
    for number in range(BURST):
        renewed.admit_untrusted(sender.init(number + 1), HERE, 0.0)
    caught = refusal(renewed, sender.init(BURST + 1))
    assert isinstance(caught, ReplyDue)
    sender.stamper.consume_reply_untrusted(caught.replies[0], 0.0)
    assert renewed.admit_untrusted(sender.init(BURST + 1), HERE, 0.0).proven_address
    other = Sender(server=STRANGER if server is SERVER else SERVER)
    other.stamper._cookie, other.stamper._cookie_since = sender.stamper._cookie, 0.0
    assert reason(renewed, other.init(BURST + 2)) == "rate_limited"


def test_an_identity_that_stays_keeps_its_cookies(gate):
    sender = Sender()
    for number in range(BURST):
        gate.admit_untrusted(sender.init(number + 1), HERE, 0.0)
    sender.stamper.consume_reply_untrusted(refusal(gate, sender.init(BURST + 1)).replies[0], 0.0)
    gate.set_identities([STRANGER, SERVER])
    assert gate.admit_untrusted(sender.init(BURST + 1), HERE, 0.0).proven_address


def test_an_init_for_an_identity_that_is_no_more_is_a_wrong_mac1(renewed):
    renewed.set_identities([STRANGER])
    assert reason(renewed, Sender().init()) == "bad_mac1"


def test_an_init_is_fresh_or_not_whichever_identity_it_is_for(renewed):
    """Its time is of the peer: what was confirmed under one is old under the other."""
    renewed.confirmed(CLIENT.public, 7)
    assert reason(renewed, Sender(server=STRANGER).init(7)) == "stale_timestamp"
    assert reason(renewed, Sender(server=SERVER).init(7)) == "stale_timestamp"
