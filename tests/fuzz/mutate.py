"""The search without atheris: inputs of the corpus, changed at random. From the seed follows all.

It knows nothing of coverage, so it finds what is near to the corpus, and that at once.
"""

import random
from collections.abc import Callable, Sequence

LONGEST = 4096  # bytes of an input
_INTERESTING = (0, 1, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """An input made of one of the corpus, or of two."""
    data = bytearray(rng.choice(corpus) if rng.random() < 0.9 else rng.randbytes(200))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] = rng.choice(_INTERESTING)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                del data[at : at + rng.randint(1, 8)]
            case 5:  # deeds again, and again
                data[at:at] = data[at : at + rng.randint(1, 40)] * rng.choice((1, 1, 4))
            case 6:
                other = rng.choice(corpus)
                data[at:at] = other[rng.randrange(len(other) + 1) :]
            case _:
                data += rng.randbytes(rng.randint(1, 60))
    return bytes(data[:LONGEST])


def search(
    run: Callable[[bytes], None],
    corpus: Sequence[bytes],
    seed: int,
    begin: Callable[[bytes], None],
    goes_on: Callable[[int], bool],
) -> int:
    """Run mutated inputs while `goes_on(number)`; how many. `begin(input)` comes before each."""
    rng = random.Random(seed)
    number = 0
    while goes_on(number):
        data = mutated(rng, corpus)
        begin(data)
        run(data)
        number += 1
    return number
