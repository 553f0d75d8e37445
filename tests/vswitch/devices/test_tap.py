"""What is asked of the TAP driver, with a driver that refuses."""

import errno
import os
import struct

import pytest

from vswitch.devices import netlink
from vswitch.devices import tap as tap_setup
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError
from vswitch.frames.records import MAX_BODY


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


def test_refusals_of_offloads_for_other_reasons_are_errors(monkeypatch):
    def ioctl(fd, request, argument):
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(tap_setup.fcntl, "ioctl", ioctl)
    with pytest.raises(VswitchError, match="cannot set up offloads of vsw0: Inappropriate"):
        tap_setup._offer_offloads(7, "vsw0")


def test_a_superframe_fits_a_record():
    assert 10 + 14 + 8 + tap_setup.GSO_MAX_SIZE <= MAX_BODY


@pytest.mark.parametrize("frames", [0, -1, 100_001])
def test_queue_lengths_out_of_range_are_refused(frames):
    with pytest.raises(VswitchError, match="txqueuelen"):
        TapConfig("vsw0", txqueuelen=frames)
    assert TapConfig("vsw0", txqueuelen=20).txqueuelen == 20


class Driver:
    """A TAP driver and the rest of the kernel, which knows no virtio-net header at `refuses`."""

    def __init__(self, monkeypatch, refuses, error=errno.EINVAL, existing=False):
        self.refuses, self.error = refuses, error
        self.flags = []  # of each attachment that was tried
        self.opened = []
        self.configured = {}
        self.link = netlink.Link(7, "vsw0", "02:00:5e:00:53:01", 1500, True, "tun", True)
        self.links = [self.link if existing else None, self.link]
        monkeypatch.setattr(tap_setup.fcntl, "ioctl", self.ioctl)
        monkeypatch.setattr(tap_setup, "_open_tun", self.open)
        monkeypatch.setattr(tap_setup.netlink, "find_link", lambda name: self.links.pop(0))
        monkeypatch.setattr(tap_setup.netlink, "create_tap", lambda name: None)
        monkeypatch.setattr(tap_setup.netlink, "configure", self.configure)

    def open(self):
        self.opened.append(os.open(os.devnull, os.O_RDWR))
        return self.opened[-1]

    def configure(self, name, **what):
        self.configured = what

    def ioctl(self, fd, request, argument):
        assert fd == self.opened[-1]
        if request == tap_setup.TUNSETIFF:
            self.flags.append(tap_setup.IFREQ.unpack(argument)[1])
        if request == self.refuses and (
            request != tap_setup.TUNSETIFF or self.flags[-1] & tap_setup.IFF_VNET_HDR
        ):
            raise OSError(self.error, os.strerror(self.error))


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.linux
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("refuses", "error"),
    [
        (tap_setup.TUNSETIFF, errno.EINVAL),
        (tap_setup.TUNSETVNETHDRSZ, errno.ENOTTY),
        (tap_setup.TUNSETOFFLOAD, errno.ENOTTY),
    ],
)
def test_a_kernel_without_virtio_net_headers_gives_a_tap_without_offloads_and_a_line_of_log(
    monkeypatch, caplog, refuses, error, existing
):
    driver = Driver(monkeypatch, refuses, error, existing)
    attached = tap_setup.attach(TapConfig("vsw0", offload=True))
    assert (attached.offload, attached.persistent) == (False, existing)
    # One that is there could have been made for several queues, which is tried between.
    several = [0x5102] if existing and refuses == tap_setup.TUNSETIFF else []
    assert driver.flags == [0x5002, *several, 0x1002]
    # The first was closed before the second was opened, so they have the same number.
    assert driver.opened == [attached.fd] * 2
    assert driver.configured["gso_max_size"] is None
    (line,) = [each.getMessage() for each in caplog.records]
    assert line.startswith("tap-without-offload dev=vsw0 reason=")
    os.close(attached.fd)


@pytest.mark.linux
def test_offloads_that_are_not_wanted_are_not_asked_for(monkeypatch, caplog):
    driver = Driver(monkeypatch, tap_setup.TUNSETOFFLOAD)
    attached = tap_setup.attach(TapConfig("vsw0"))
    assert (attached.offload, driver.flags, caplog.records) == (False, [0x1002], [])
    os.close(attached.fd)


@pytest.mark.linux
@pytest.mark.parametrize(("error", "says"), [(errno.EBUSY, "in use"), (errno.EPERM, "tuntap add")])
def test_other_reasons_not_to_attach_are_errors(monkeypatch, error, says):
    driver = Driver(monkeypatch, tap_setup.TUNSETIFF, error)
    with pytest.raises(VswitchError, match=says):
        tap_setup.attach(TapConfig("vsw0", offload=True))
    assert [is_open(fd) for fd in driver.opened] == [False]
