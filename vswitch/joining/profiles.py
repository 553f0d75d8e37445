"""The memberships of a host: which switch a member name belongs to, and with which key.

`members/NAME.toml` says where the switch is and what its key is; `members/NAME.key` is the
member's private key. A profile is written only after the switch has accepted the member, the
key before it is asked, so that a lost answer can be asked for again with the same key.

Invariants: a profile holds no secret; files are replaced whole; a refused enrolment leaves
neither a profile nor a key behind (`discard`), but never removes those of an earlier success.

Error contract: `VswitchError` and its children with the file and what to do. The functions are
synchronous and use the disk: call them in a worker thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import time
import tomllib
from collections.abc import Iterator

from attrs import evolve, field, frozen

from transport.crypto.identity import (
    PrivateKey,
    PublicKey,
    create_key_file,
    load_key_file,
    load_or_create_key_file,
)
from transport.errors import KeyFileError
from vswitch.addresses import MAX_PLACES, HostPort, check_name, parse_https
from vswitch.config.options import JoinConfig, known_network
from vswitch.errors import ConfigError, NotFound, VswitchError
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import check_elsewhere, refusal
from vswitch.state import DEFAULT_NETWORK, StateDir, file_error, owners_beside, write_file

_FILE_BYTES = 8192  # a profile has about 200, and more where HTTPS addresses are long
_REQUIRED = frozenset({"name", "server", "server_key"})
_ALLOWED = _REQUIRED | {"token", "network", "https"}
_EVERY_ADDRESS = ("", "::", "0.0.0.0")


@frozen
class Profile:
    """All that a host needs to be a member.

    `invite` is there until the switch has accepted the member for the first time. `token` is the
    id (hex) of the invite that it came from; it tells that a string was used here before. `network`
    is what the LAN had for addresses, "" for none yet: no other is taken unasked. `local`
    means that the switch is on this host and its registry was written directly. `https` are the
    addresses at which it is reached where UDP does not pass.
    """

    name: str
    servers: tuple[HostPort, ...]
    server_key: PublicKey
    private_key: PrivateKey = field(repr=False)
    files: StateDir
    invite: JoinString | None = None
    token: str = ""
    local: bool = False
    network: str = ""
    https: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The places of the switch, as text with spaces between."""
        return " ".join(each.text() for each in self.servers)


def resolve(config: JoinConfig) -> Profile:
    """Which switch to join and as whom.

    An invite string that was given is taken, unless it is the one that the stored profile came
    from; else the stored profile; else, where the state directory is a switch's own, the member
    is enrolled there directly.

    Raises:
        NotFound: there is nothing to go by, or no such network.
        ConfigError: the invite, the profile or a key file is wrong.
        EnrolRefused: the switch of this host refuses the name or the key.
    """
    files, name = config.files, config.name
    stored = load(files, name) if files.profile(name).exists() else None
    if config.network != DEFAULT_NETWORK and (config.invite or stored):
        raise ConfigError(
            f"--network {config.network} is for a join without an invite, on the switch's own "
            "host: an invite is of one network, and the member stays in that; leave it out"
        )
    if config.invite is not None:
        invite = JoinString.parse_untrusted(config.invite)
        token = invite.token_id.hex()
        if stored is not None and stored.token == token:
            return stored
        files.ensure(as_guest=True)
        with _plain_key_errors():
            key = load_or_create_key_file(files.key(name), owners_beside(files.path))
        return Profile(
            name,
            invite.servers,
            invite.server_key,
            key,
            files,
            invite,
            token,
            https=invite.https,
        )
    if stored is not None:
        return stored
    if files.registry.exists():
        return _enrol_here(files, known_network(files, config.network), name)
    raise NotFound(
        f"{name} is not a member of a switch yet (members in {files.path}: "
        f"{', '.join(names(files)) or 'none'}): on the switch run `vswitch invite {name}`, then "
        f"here `vswitch join STRING --name {name}`"
    )


def load(files: StateDir, name: str) -> Profile:
    """The stored profile of that name, with its key.

    Raises:
        NotFound: there is none.
        ConfigError: the file, or the key file beside it, cannot be used.
    """
    path = files.profile(check_name(name))
    try:
        with path.open("rb") as file:
            values = tomllib.loads(file.read(_FILE_BYTES).decode("utf-8"))
        if not _REQUIRED <= values.keys() <= _ALLOWED:
            raise ValueError(f"it must have {', '.join(sorted(_REQUIRED))} and nothing unknown")
        if not all(isinstance(value, str) for value in values.values()):
            raise ValueError("all values must be text in quotes")
        if values["name"] != name:
            raise ValueError(f"it is for {values['name']!r}")
        servers = tuple(map(HostPort.parse, values["server"].split()))
        if not 0 < len(servers) <= MAX_PLACES:
            raise ValueError(f"server must say 1 to {MAX_PLACES} places, with spaces between")
        server_key = PublicKey.from_text(values["server_key"])
        network = values.get("network", "")
        if network:
            ipaddress.ip_network(network)
        https = tuple(map(parse_https, values.get("https", "").split()))
    except FileNotFoundError:
        raise NotFound(f"there is no profile {path}") from None
    except OSError as error:
        raise file_error("profile", path, error) from None
    except ValueError as error:
        raise ConfigError(
            f"profile {path}: {error}; mend it, or remove it and join with a new invite"
        ) from None
    with _plain_key_errors():
        key = load_key_file(files.key(name), owners_beside(files.path))
    token = values.get("token", "")
    return Profile(name, servers, server_key, key, files, token=token, network=network, https=https)


def store(profile: Profile) -> Profile:
    """Write the profile of a member that the switch has accepted, and return it without its invite.

    The key alone is enough from then on, also after the switch has forgotten the invite.

    A local profile is not written: where the switch listens is looked up anew each time.
    """
    if profile.local:
        return profile
    values = {
        "name": profile.name,
        "server": profile.where,
        "server_key": profile.server_key.text(),
        "token": profile.token,
        "network": profile.network,
        "https": " ".join(profile.https),
    }
    # These strings are ASCII without control characters; JSON writes such as TOML does.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    profile.files.ensure(as_guest=True)
    write_file(profile.files.profile(profile.name), "".join(lines).encode("utf-8"))
    return evolve(profile, invite=None)


def discard(profile: Profile, code: int) -> bool:
    """Remove the key of an enrolment that was refused with `code`; tells whether it did.

    The key stays if it has a stored profile, or if the switch may know it as a member.
    """
    files = profile.files
    if profile.invite is None or refusal(code).known or files.profile(profile.name).exists():
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(files.key(profile.name))
    return True


def forget(files: StateDir, name: str) -> None:
    """Remove a membership from this host: the profile first, which is of no use without its key."""
    for path in (files.profile(name), files.key(name)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise file_error("cannot remove", path, error) from None


def names(files: StateDir) -> list[str]:
    """Names of the stored profiles, sorted. What is called as no member can be is none of them."""
    found = []
    for path in files.members.glob("*.toml"):
        with contextlib.suppress(ValueError):
            found.append(check_name(path.stem))
    return sorted(found)


def _enrol_here(files: StateDir, network: StateDir, name: str) -> Profile:
    with Registry.open(network.registry, create=False) as registry, _plain_key_errors():
        served = registry.served()
        # The key that it has noted: its key file is for its own user alone.
        if served is None or served.key is None:
            raise VswitchError(f"the switch of {files.path} has never run: start `vswitch serve`")
        files.ensure(as_guest=True)
        path = files.key(name)
        fresh = not path.exists()
        key = create_key_file(path) if fresh else load_key_file(path, owners_beside(files.path))
        try:
            for other in () if fresh else files.networks():
                _check_elsewhere(files.network(other), other, network, key.public)
            registry.enrol_local(key.public.raw, name, time.time())
        except BaseException:
            if fresh:
                os.unlink(path)
            raise
    first = served.listen[0]
    host = "127.0.0.1" if first.host in _EVERY_ADDRESS else first.host
    return Profile(name, (HostPort(host, first.port),), served.key, key, files, local=True)


def _check_elsewhere(files: StateDir, name: str, joined: StateDir, key: PublicKey) -> None:
    """That a network has not got the key, unless it is the one that is joined."""
    if files != joined and files.registry.exists():
        with Registry.open(files.registry, create=False) as registry:
            check_elsewhere(registry.look_up(key.raw), name)


@contextlib.contextmanager
def _plain_key_errors() -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        raise ConfigError(str(error)) from None
