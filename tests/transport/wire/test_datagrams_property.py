"""Whatever is encoded is decoded to the same, and whatever is decoded says what its bytes said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from transport.constants import MAX_CLOSE_REASON, MAX_CONTROL_ITEMS, MIN_KCP_MTU
from transport.errors import BadPacket
from transport.stats import DROP_REASONS
from transport.wire.control import (
    Close,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    decode_control_untrusted,
    encode_control,
)
from transport.wire.datagrams import (
    Credential,
    CredentialKind,
    InitPayload,
    ResponsePayload,
    Result,
    Suite,
    decode_cookie_index_untrusted,
    decode_init_payload_untrusted,
    decode_init_untrusted,
    decode_response_payload_untrusted,
    decode_response_untrusted,
    encode_init_clear,
    encode_response,
)

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
mtus = st.integers(MIN_KCP_MTU, 0xFFFF)
windows = st.integers(128, 0xFFFF)
slices = st.integers(1, 255)


def fixed(size):
    return st.binary(min_size=size, max_size=size)


credentials = st.builds(Credential, st.sampled_from(CredentialKind), fixed(8))
init_payloads = st.builds(InitPayload, u64, fixed(16), u64, mtus, windows, slices, st.booleans())
response_payloads = st.builds(
    ResponsePayload,
    *(u64, u32, st.booleans(), st.sampled_from(Result), mtus, windows, slices, fixed(16), u64),
    st.booleans(),
)
# A reason that fits, of characters that a terminal may see.
reasons = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=MAX_CLOSE_REASON // 4)
eights = fixed(8)
items = st.one_of(
    st.builds(Close, u16, reasons),
    st.just(Rekey()),
    st.builds(MtuProbe, u32, st.integers(0, 9000)),
    st.builds(MtuAck, u16, u32),
    *(st.builds(kind, eights) for kind in (PathChallenge, PathResponse, Ping, Pong)),
)

checked = settings(max_examples=200)


@given(credentials, st.sampled_from(Suite), u32, fixed(184), fixed(32))
@checked
def test_init(credential, suite, index, noise, macs):
    datagram = encode_init_clear(credential, suite, index) + noise + macs
    header = decode_init_untrusted(datagram)
    assert (header.credential, header.suite, header.sender_index) == (credential, suite, index)
    assert header.clear + header.noise + macs == datagram
    assert header.mac1 == macs[:16]


@given(u32, u32, fixed(96), fixed(32))
@checked
def test_response(sender, receiver, noise, macs):
    header = decode_response_untrusted(encode_response(sender, receiver, noise) + macs)
    assert (header.sender_index, header.receiver_index) == (sender, receiver)
    assert header.noise == noise


@given(init_payloads)
@checked
def test_init_payload(payload):
    assert decode_init_payload_untrusted(payload.encode()) == payload


@given(response_payloads)
@checked
def test_response_payload(payload):
    assert decode_response_payload_untrusted(payload.encode()) == payload


@given(st.lists(items, max_size=MAX_CONTROL_ITEMS))
@checked
def test_control(sent):
    assert decode_control_untrusted(encode_control(*sent)) == sent


@given(st.text(max_size=400))
@checked
def test_any_reason_can_be_sent(reason):
    (item,) = decode_control_untrusted(encode_control(Close(1, reason)))
    assert item.reason.isprintable()
    kept = reason.encode(errors="ignore")[:MAX_CLOSE_REASON].decode(errors="ignore")
    assert len(item.reason) == len(kept)


def attempt(decode, data):
    try:
        return decode(data), None
    except BadPacket as bad:
        return None, bad.reason


@given(st.binary(max_size=300))
@checked
def test_any_bytes_are_refused_or_mean_what_they_say(data):
    for decode in (
        decode_init_untrusted,
        decode_init_payload_untrusted,
        decode_response_untrusted,
        decode_response_payload_untrusted,
        decode_cookie_index_untrusted,
        decode_control_untrusted,
    ):
        decoded, reason = attempt(decode, data)
        if reason:
            assert reason in DROP_REASONS
        elif isinstance(decoded, list):
            assert decode(encode_control(*decoded)) == decoded
        elif isinstance(decoded, (InitPayload, ResponsePayload)):
            assert decode(decoded.encode()) == decoded
