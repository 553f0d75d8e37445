"""What is asked of the TAP driver, with a driver that refuses."""

import errno
import struct

import pytest

from vswitch.core.records import MAX_BODY
from vswitch.errors import VswitchError
from vswitch.ports import tap_setup
from vswitch.ports.tap import TapConfig


@pytest.mark.parametrize(
    ("known", "chosen"), [(0x7F, 0x6F), (0x1F, 0x0F), (0x01, 0x01), (0x00, 0x00)]
)
def test_the_most_that_the_kernel_knows_is_offered(monkeypatch, known, chosen):
    calls = []

    def ioctl(fd, request, argument):
        assert fd == 7
        if request == tap_setup.TUNSETOFFLOAD and argument & ~known:
            raise OSError(errno.EINVAL, "Invalid argument")
        calls.append((request, argument))

    monkeypatch.setattr(tap_setup.fcntl, "ioctl", ioctl)
    monkeypatch.setattr(tap_setup.sys, "byteorder", "big")
    tap_setup._offer_offloads(7, "vsw0")
    assert calls == [
        (tap_setup.TUNSETVNETHDRSZ, struct.pack("i", 10)),
        (tap_setup.TUNSETVNETLE, struct.pack("i", 1)),
        (tap_setup.TUNSETOFFLOAD, chosen),
    ]


def test_other_refusals_are_errors(monkeypatch):
    def ioctl(fd, request, argument):
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(tap_setup.fcntl, "ioctl", ioctl)
    with pytest.raises(VswitchError, match="cannot set up offloads of vsw0: Inappropriate"):
        tap_setup._offer_offloads(7, "vsw0")


def test_a_superframe_fits_a_record():
    assert tap_setup.GSO_MAX_SIZE == 65_000
    assert 10 + 14 + 8 + tap_setup.GSO_MAX_SIZE <= MAX_BODY


@pytest.mark.parametrize("frames", [0, -1, 100_001])
def test_queue_lengths_that_are_none(frames):
    with pytest.raises(VswitchError, match="txqueuelen"):
        TapConfig("vsw0", txqueuelen=frames)
    assert TapConfig("vsw0", txqueuelen=20).txqueuelen == 20
