"""The key of a switch on the disk, and how another one takes its place.

`server.key` is the key. While members may still come by the one before, that is in
`server.key.old`, and the registry of the default network says how long the switch has still to
serve by it; it keeps, too, which key was the first, for addresses of the LAN follow from that.

Invariant: wherever a change is cut short, what is there is a switch that members can come to. So
the old key is written down first, as a copy of `server.key`, then for how long it is good, then the
new key; two files alike are no change at all. At the end the old key goes before all else.

Error contract: `ConfigError` for a key file that cannot be used, `VswitchError` for what cannot be
written, and then the switch has the keys that it had. Synchronous, and uses the disk.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from transport import KeyFileError, PrivateKey, PublicKey, load_key_file, load_or_create_key_file
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Grace
from vswitch.state import StateDir, file_error, remove_left, sync_directory, write_file

GRACE: Final = 30 * 86400.0  # seconds for which members may come by the old key

log = logging.getLogger(__name__)


@frozen
class SwitchKeys:
    """What a switch is known by. `old` is good as long as `grace` says, which is there with it."""

    key: PrivateKey
    old: PrivateKey | None = None
    grace: Grace | None = None
    origin: PublicKey | None = None  # the first key, where that is another one

    @property
    def identities(self) -> tuple[PrivateKey, ...]:
        """The newest first."""
        return (self.key,) if self.old is None else (self.key, self.old)

    @property
    def public(self) -> PublicKey:
        """That which members are to have."""
        return self.key.public


def load(files: StateDir) -> SwitchKeys:
    """Those of the files; a switch without a key gets one. `settle` says what they are worth.
    Copies that a change has left which was killed are removed: none may outlive its key.
    """
    with suppress(OSError):  # on a disk that is read-only they stay
        remove_left(files.server_key)
        remove_left(files.old_server_key)
    try:
        key = load_or_create_key_file(files.server_key)
        there = files.old_server_key.exists()
        return SwitchKeys(key, load_key_file(files.old_server_key) if there else None)
    except KeyFileError as error:
        raise ConfigError(str(error)) from None


def settle(
    keys: SwitchKeys,
    files: StateDir,
    registry: Registry,
    now: float,
    others: Iterable[Registry] = (),
) -> SwitchKeys:
    """What they are at the start, by the registry of the default network. An end that was cut
    short is carried out, also in the registries of other networks.
    """
    served = registry.served()
    grace = None if served is None else served.grace
    keys = evolve(keys, origin=None if served is None else served.origin)
    old = None if keys.old is None else keys.old.public
    # A key that the registry knows to be alone had another one, which was forgotten: a crash has
    # brought that back, or it could not be removed.
    alone = grace is None and served is not None and served.key == keys.public
    if old is not None and old != keys.public and not alone:
        if grace is None or grace.old != old:  # the registry is not the one of then
            grace = Grace(old, now, GRACE)
        if grace.left > 0:
            return evolve(keys, grace=grace, origin=keys.origin or old)
    try:
        if old is not None:
            _remove(files.old_server_key)
        gone = old if grace is None else grace.old
        if gone is not None and gone != keys.public:
            event(log, "switch-key-forgotten", logging.WARNING, key=gone.fingerprint())
            if grace is not None:
                for each in (registry, *others):
                    each.cancel_invites(grace.since)
    except VswitchError as error:  # it is not gone by in any case
        event(log, "switch-key-not-forgotten", logging.ERROR, error=error)
    return evolve(keys, old=None)


def replace(
    keys: SwitchKeys, files: StateDir, registry: Registry, now: float, seconds: float
) -> SwitchKeys:
    """Have a new key, and the one before for so long; for no time at all with 0."""
    new, origin = PrivateKey.generate(), keys.origin or keys.public
    grace = Grace(keys.public, now, seconds) if seconds else None
    served = registry.served()
    if served is None:
        raise VswitchError(f"{files.registry} does not know of the switch: start it once more")
    try:
        if grace is None:  # a copy that an attempt before has left must not come to be good
            _remove(files.old_server_key)
        else:
            _write(files.old_server_key, keys.key)
        registry.record_served(evolve(served, origin=origin, grace=grace))
        _write(files.server_key, new)
    except VswitchError:
        # The copy stays: whether the new key is there all the same is seen at the next start.
        with suppress(VswitchError):
            registry.record_served(served)
        raise
    return SwitchKeys(new, keys.key if grace is not None else None, grace, origin)


def forget_old(keys: SwitchKeys, files: StateDir) -> SwitchKeys:
    """Have the new key alone."""
    _remove(files.old_server_key)
    return evolve(keys, old=None, grace=None)


def _remove(path: Path) -> None:
    """Also across a crash."""
    try:
        remove_left(path)
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise file_error("cannot remove", path, error) from None


def _write(path: Path, key: PrivateKey) -> None:
    write_file(path, base64.b64encode(key.raw()) + b"\n")
