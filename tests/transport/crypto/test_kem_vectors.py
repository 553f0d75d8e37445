"""ML-KEM-768 against the known answers of FIPS 203 with which `cryptography` tests its own.

Each of the thousand answers has a seed, the key that comes of it, a ciphertext and its secret, and
a ciphertext that was made for no key with what that has to give (the implicit rejection).
"""

from collections.abc import Iterator

import cryptography_vectors
from kyber_py.ml_kem import ML_KEM_768

from transport.crypto.kem import KemPrivateKey

KNOWN = "asymmetric/MLKEM/kat_MLKEM_768.rsp"


def answers() -> Iterator[dict[str, bytes]]:
    """Each block of `name = value` lines, from `count` to the next."""
    answer: dict[str, bytes] = {}
    with cryptography_vectors.open_vector_file(KNOWN, "r") as lines:
        for line in lines:
            name, _, value = line.strip().partition(" = ")
            if name == "count":
                if answer:
                    yield answer
                answer = {}
            elif name:
                answer[name] = bytes.fromhex(value)
    yield answer


def test_the_key_of_a_seed_and_what_it_opens():
    checked = 0
    for known in answers():
        key = KemPrivateKey(known["d"] + known["z"])
        assert key.public == known["pk"]
        assert key.decapsulate_untrusted(known["ct"]) == known["ss"]
        assert key.decapsulate_untrusted(known["ct_n"]) == known["ss_n"]
        checked += 1
    assert checked == 1000


def test_the_second_implementation_gives_the_same_answers():
    for known, _ in zip(answers(), range(5), strict=False):
        public, secret = ML_KEM_768.key_derive(known["d"] + known["z"])
        assert (public, secret) == (known["pk"], known["sk"])
        assert ML_KEM_768.decaps(secret, known["ct"]) == known["ss"]
        assert ML_KEM_768.decaps(secret, known["ct_n"]) == known["ss_n"]
