"""A second, slow implementation of the hybrid handshake, written down from the specifications.

It shares nothing with `transport.crypto` but the AEAD of `cryptography`: X25519 is the ladder of
RFC 7748, HMAC is RFC 2104 over hashlib's BLAKE2s, ML-KEM-768 is the package `kyber-py`. Everything
is an argument, so its output is known: `hybrid_vectors.json` is what `vectors()` gives.

    python tests/transport/crypto/hybrid_reference.py    # writes the file anew
"""

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from kyber_py.ml_kem import ML_KEM_768

VECTORS = Path(__file__).with_name("hybrid_vectors.json")
CIPHERS = {"ChaChaPoly": (ChaCha20Poly1305, "little"), "AESGCM": (AESGCM, "big")}
P = 2**255 - 19


def x25519(secret, point):
    """RFC 7748 section 5."""
    scalar = bytearray(secret)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    k = int.from_bytes(scalar, "little")
    u = int.from_bytes(point, "little") % 2**255
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in reversed(range(255)):
        swap = k >> bit & 1
        if swap:
            x2, x3, z2, z3 = x3, x2, z3, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
        if swap:
            x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def public_of(secret):
    return x25519(secret, (9).to_bytes(32, "little"))


def blake2s(data):
    return hashlib.blake2s(data).digest()


def hmac(key, data):
    """RFC 2104; BLAKE2s has blocks of 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner = blake2s(bytes(each ^ 0x36 for each in padded) + data)
    return blake2s(bytes(each ^ 0x5C for each in padded) + inner)


def hkdf(chain, material, count):
    secret, outputs = hmac(chain, material), [b""]
    for number in range(1, count + 1):
        outputs.append(hmac(secret, outputs[-1] + bytes([number])))
    return outputs[1:]


class State:
    """The symmetric state of Noise, section 5.2."""

    def __init__(self, cipher, prologue, responder):
        name = f"Noise_IKhfs+psk1_25519+MLKEM768_{cipher}_BLAKE2s".encode()
        self.aead, self.order = CIPHERS[cipher]
        self.h = self.ck = blake2s(name)  # longer than 32 bytes
        self.k, self.n = None, 0
        self.mix_hash(prologue)
        self.mix_hash(responder)

    def mix_hash(self, data):
        self.h = blake2s(self.h + data)

    def mix_key(self, material):
        self.ck, self.k = hkdf(self.ck, material, 2)
        self.n = 0

    def mix_psk(self, psk):
        self.ck, mixed, self.k = hkdf(self.ck, psk, 3)
        self.mix_hash(mixed)
        self.n = 0

    def nonce(self):
        return bytes(4) + (self.n.to_bytes(8, self.order))

    def seal(self, plaintext):
        sealed = self.aead(self.k).encrypt(self.nonce(), plaintext, self.h)
        self.n += 1
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed):
        plaintext = self.aead(self.k).decrypt(self.nonce(), sealed, self.h)
        self.n += 1
        self.mix_hash(sealed)
        return plaintext


def first_message(state, keys, psk, payload):
    """`e, es, e1, s, ss, psk` (the extension, section 5).

    By who has `client`, `client_ephemeral` and the KEM seed.
    """
    server = public_of(keys["server"])
    e = public_of(keys["client_ephemeral"])
    state.mix_hash(e)
    state.mix_key(e)
    kem_public, _ = ML_KEM_768.key_derive(keys["kem_seed"])
    state.mix_key(x25519(keys["client_ephemeral"], server))
    e1 = state.seal(kem_public)
    s = state.seal(public_of(keys["client"]))
    state.mix_key(x25519(keys["client"], server))
    state.mix_psk(psk)
    return e + e1 + s + state.seal(payload)


def second_message(state, keys, encapsulated, payload):
    """`e, ee, ekem1, se`, by who has `server_ephemeral`; `encapsulated`: ciphertext and secret."""
    ciphertext, secret = encapsulated
    e = public_of(keys["server_ephemeral"])
    state.mix_hash(e)
    state.mix_key(e)
    state.mix_key(x25519(keys["server_ephemeral"], public_of(keys["client_ephemeral"])))
    ekem1 = state.seal(ciphertext)
    state.mix_key(secret)
    state.mix_key(x25519(keys["server_ephemeral"], public_of(keys["client"])))
    return e + ekem1 + state.seal(payload)


def read_second_message(state, keys, message):
    """The payload, by who has written the first."""
    e = message[:32]
    state.mix_hash(e)
    state.mix_key(e)
    state.mix_key(x25519(keys["client_ephemeral"], e))
    _, kem_secret = ML_KEM_768.key_derive(keys["kem_seed"])
    ciphertext = state.open(message[32 : 32 + 1088 + 16])
    state.mix_key(ML_KEM_768.decaps(kem_secret, ciphertext))
    state.mix_key(x25519(keys["client"], e))
    return state.open(message[32 + 1088 + 16 :])


def keys_of(number):
    """Secrets that are no secrets."""
    names = ("client", "client_ephemeral", "server", "server_ephemeral")
    keys = {name: blake2s(f"{name} {number}".encode()) for name in names}
    return keys | {"kem_seed": hashlib.blake2b(f"kem {number}".encode()).digest()}


def vector(number, cipher, psk, payloads):
    keys, prologue = keys_of(number), b"vswitch/1 and what is in clear"
    state = State(cipher, prologue, public_of(keys["server"]))
    first = first_message(state, keys, psk, payloads[0])
    message = hashlib.blake2s(f"m {number}".encode()).digest()
    kem_public, _ = ML_KEM_768.key_derive(keys["kem_seed"])
    encapsulated = deterministic(message).encaps(kem_public)[::-1]
    second = second_message(state, keys, encapsulated, payloads[1])
    to_server, to_client = hkdf(state.ck, b"", 2)
    found = {
        "psk": psk, "prologue": prologue, "first_payload": payloads[0], "first": first,
        "second_payload": payloads[1], "second": second, "hash": state.h, "to_server": to_server,
        "to_client": to_client, **keys,
    }  # fmt: skip
    return {"cipher": cipher} | {name: value.hex() for name, value in found.items()}


def deterministic(message):
    """ML-KEM-768 that takes these 32 bytes for chance."""
    kem = type(ML_KEM_768)({"k": 3, "eta_1": 2, "eta_2": 2, "du": 10, "dv": 4})
    kem.random_bytes = lambda size: message[:size]
    return kem


def vectors():
    chosen = [(bytes(32), (bytes(72), bytes(48))), (blake2s(b"psk"), (b"", b"an answer"))]
    return [
        vector(2 * number + place, cipher, psk, payloads)
        for number, cipher in enumerate(CIPHERS)
        for place, (psk, payloads) in enumerate(chosen)
    ]


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
