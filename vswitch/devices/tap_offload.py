"""A TAP interface with offloads: superframes pass whole, and nobody completes a checksum in vain.

Each read and write has a virtio-net header in front. What the kernel sends comes out as

 - a frame record, when it lacks nothing;
 - a superframe record that `check_superframe_untrusted` accepts, when it lacks its checksum or is
   to be cut; so a peer that checks refuses nothing of what an honest host sends;
 - frames cut or completed here, in the rare case that the rules for peers are too narrow for it:
   tiny segments, checksums of tunnels or behind IPv6 extension headers;
 - one superframe record for the datagrams of a flow that were read in a row, as
   `frames/merge.py` says.

What goes in is checked first, for it may come from a peer; `dropped["bad_offload"]` counts what
is not fit. All else, errors too, is as with `TapDevice`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque

import attrs
import trio

from vswitch.devices.tap import (
    DROP_REASON,
    ETHERNET_OVERHEAD,
    GSO_MAX_SIZE,
    READ_SIZE,
    TapDevice,
    record_headers,
)
from vswitch.errors import BadRecord
from vswitch.frames.checksum import complete_checksum
from vswitch.frames.merge import MERGEABLE, merge_datagrams
from vswitch.frames.records import (
    FRAME_FLAG,
    HEADER_SIZE,
    MAX_BODY,
    SUPERFRAME,
    VIRTIO_HEADER_SIZE,
    is_superframe,
)
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import USUAL_HEADERS, check_superframe_untrusted
from vswitch.frames.virtio import (
    FRAME_AT,
    GSO_NONE,
    MAX_SEGMENTS,
    NEEDS_CSUM,
    NO_OFFLOAD,
    VIRTIO_HEADER,
)

_RECORD_HEADER = struct.Struct(">HH")
# Bytes of a record: above this, writing a view beats writing a copy without the record header.
_COPY_BELOW = 2048
# Headers of superframes that passed the check once need no other look: all that could differ
# then is the kernel's word for the length of IP. Not so below this gso_size, in bytes, where the
# number of segments may be too high; and no more headers than this are kept.
_PASSES_FROM = 512
_MAX_PASSED = 4096
_PASSING = USUAL_HEADERS - MERGEABLE  # those of datagrams pass as well, and are counted


@attrs.define(eq=False)
class OffloadTapDevice(TapDevice):
    """An attached TAP interface with a virtio-net header; made by `open_tap`."""

    superframes: bool = True
    _superframe_headers: list[bytes] = attrs.field(init=False, repr=False)
    _passed: set[bytes] = attrs.field(init=False, repr=False)  # virtio-net headers
    # Records that the next reads give: parts of what was cut, or what was more than a limit.
    _ready: deque[bytes] = attrs.field(init=False, repr=False, factory=deque)

    def _set_lengths(self, mtu: int) -> None:
        TapDevice._set_lengths(self, mtu)
        longest = VIRTIO_HEADER_SIZE + mtu + ETHERNET_OVERHEAD
        self._superframe_headers = record_headers(SUPERFRAME, longest)
        self._passed = set(_PASSING)

    async def wait_readable(self) -> None:
        if self._ready:
            self._open_fd()
            await trio.lowlevel.checkpoint()
        else:
            await TapDevice.wait_readable(self)

    def read_nowait(self, limit: int) -> list[bytes]:
        """1 to `limit` records; `trio.WouldBlock` when the kernel has none. HOT PATH.

        While there are only datagrams, up to 128 are read: merged, they are few records.
        """
        fd = self._open_fd()
        if self._ready:
            return self._read_ready(limit)
        read = os.read
        passed = self._passed
        headers = self._superframe_headers
        records: list[bytes] = []
        append = records.append
        datagrams = 0
        try:
            for number in range(max(limit, MAX_SEGMENTS)):
                if number >= limit and number != datagrams:
                    break  # only datagrams go beyond the limit
                data = read(fd, READ_SIZE)
                header = data[:VIRTIO_HEADER_SIZE]
                if header in passed or (header in MERGEABLE and (datagrams := datagrams + 1)):
                    try:
                        append(headers[len(data)] + data)
                        continue
                    except IndexError:
                        record = self._long_record(data)
                else:
                    record = self._record_of(data)
                if record is not None:
                    append(record)
                elif self._ready:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            if not records:
                raise self._broken(error) from error
        if not records:
            return self._read_ready(limit)
        if datagrams > 1:
            records = merge_datagrams(records, self.mtu, GSO_MAX_SIZE)
            self._ready.extendleft(reversed(records[limit:]))
            del records[limit:]
        return records

    def write_nowait(self, records: list[bytes]) -> int:
        """Give frames to the kernel: how many it took or refused from the front. HOT PATH."""
        fd = self._open_fd()
        write = os.write
        mtu = self.mtu
        done = 0
        for record in records:
            try:
                if record[1] == FRAME_FLAG:
                    write(fd, NO_OFFLOAD + record[HEADER_SIZE:])
                else:
                    header = check_superframe_untrusted(record, mtu)
                    if header is not None:
                        write(fd, header + record[FRAME_AT:])
                    elif len(record) < _COPY_BELOW:
                        write(fd, record[HEADER_SIZE:])
                    else:
                        write(fd, memoryview(record)[HEADER_SIZE:])
            except BlockingIOError:
                return done
            except BadRecord:
                self.dropped["bad_offload"] += 1
            except OSError as error:
                if error.errno == errno.EINVAL and is_superframe(record) and record[5]:
                    self._write_cut(fd, record)
                else:
                    self._count_refused(error)
            done += 1
        return done

    def _write_cut(self, fd: int, record: bytes) -> None:
        """Write the frames of a superframe that this kernel does not know: UDP before Linux 6.2."""
        for frame in cut_untrusted(record, self.mtu):
            try:
                os.write(fd, NO_OFFLOAD + frame[HEADER_SIZE:])
            except OSError as error:
                self.dropped[DROP_REASON.get(error.errno or 0, "refused")] += 1

    def _read_ready(self, limit: int) -> list[bytes]:
        if not self._ready:
            raise trio.WouldBlock
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _long_record(self, data: bytes) -> bytes | None:
        """The record of what has a header that passes, and is longer than the MTU."""
        size = len(data)
        if data[1] == GSO_NONE or size > MAX_BODY:
            return self._put_right(data)
        return _RECORD_HEADER.pack(SUPERFRAME, size) + data

    def _record_of(self, data: bytes) -> bytes | None:
        """The record of what was read; None where it was dropped, or cut into `_ready`."""
        if data.startswith(NO_OFFLOAD):
            return self._frame_record(data[VIRTIO_HEADER_SIZE:])
        size = len(data)
        if size <= MAX_BODY:
            record = _RECORD_HEADER.pack(SUPERFRAME, size) + data
            try:
                header = check_superframe_untrusted(record, self.mtu)
            except BadRecord:
                return self._put_right(data)
            if header is None:
                _, gso_type, _, gso_size, _, _ = VIRTIO_HEADER.unpack_from(data)
                if gso_type != GSO_NONE and gso_size >= _PASSES_FROM:
                    if len(self._passed) >= _MAX_PASSED:
                        self._passed.intersection_update(_PASSING)
                    self._passed.add(data[:VIRTIO_HEADER_SIZE])
                return record
            return record[:HEADER_SIZE] + header + record[FRAME_AT:]
        return self._put_right(data)

    def _put_right(self, data: bytes) -> bytes | None:
        """Do here what the kernel left undone, and no peer would be trusted to ask for."""
        flags, gso_type, _, _, start, offset = VIRTIO_HEADER.unpack_from(data)
        try:
            if gso_type != GSO_NONE:
                # The length of a record that is only to be cut does not matter.
                record = bytes(HEADER_SIZE) + data
                self._ready.extend(cut_untrusted(record, self.mtu, min_gso_size=1))
                return None
            frame = data[VIRTIO_HEADER_SIZE:]
            if flags & NEEDS_CSUM:
                at = start + offset
                frame = frame[:at] + complete_checksum(frame, start, offset) + frame[at + 2 :]
        except (BadRecord, ValueError):
            self.dropped["bad_offload"] += 1
            return None
        return self._frame_record(frame)

    def _frame_record(self, frame: bytes) -> bytes | None:
        try:
            return self._headers[len(frame)] + frame
        except IndexError:
            self.dropped["oversize"] += 1
            return None
