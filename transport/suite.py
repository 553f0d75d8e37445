"""Which cipher suite this machine initiates with.

AES-GCM is the faster of the two where the processor has AES instructions (0.8 against 1.5 µs
for 1,400 bytes) and the slower, and not constant-time, where it has not. Nothing is negotiated:
the responder takes both.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from transport.noise import Suite

__all__ = ["preferred_suite"]


@cache
def preferred_suite() -> Suite:
    """AESGCM if /proc/cpuinfo lists AES, CHACHAPOLY otherwise and where it cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return Suite.CHACHAPOLY
    # x86 calls the list "flags", ARM "Features".
    features = {
        word for line in lines if line.startswith(("flags", "Features")) for word in line.split()
    }
    return Suite.AESGCM if "aes" in features else Suite.CHACHAPOLY
