"""Who the members are: names bound to keys, the invites that make members, their addresses; and
which addresses machines have by DHCP that are no members.

Invariants, kept by one transaction each and by unique indexes: a name belongs to one key, an
address to one member or machine, an invite makes one member. A revoked key stays known, so that it
stays refused; its name and address are free again. Times are wall-clock seconds since the epoch.

The methods are synchronous. `look_up`, `invite`, `count` and `version` are short reads that never
wait for a writer. All others may wait for the disk: call them in a worker thread. Any thread may
call any.

Error contract: `EnrolRefused` says no to a member with the code that goes on the wire; `NotFound`
for a name nobody has; `VswitchError` if the file cannot be used, and then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Self, TypeVar

from attrs import astuple, evolve

from transport.crypto.identity import PublicKey
from vswitch.addresses import MAX_GATEWAYS, HostPort, check_name, highest_free, parse_subnet
from vswitch.errors import ByeCode, ConfigError, NotFound, Problem, VswitchError
from vswitch.frames.ethernet import format_mac
from vswitch.registry.approvals import Network, refuse_approval
from vswitch.registry.database import Database, Execute
from vswitch.registry.rules import (
    EnrolRefused,
    Grace,
    Invite,
    LastServed,
    Lease,
    Member,
    check_invite,
    check_known,
    choose_address,
    name_taken,
    taken_reason,
)

_INVITE_LIMIT = 1024  # open invites at once (design, security table)
_INVITE_KEPT = 30 * 86400.0  # s after expiry that a used invite is still known, refused by name
# What nobody has used is kept by number, not by time: the clock may be wrong for a while, and then
# an invite that is open must not be gone.
_UNUSED_KEPT = 4096
_FORMER_NAMES = 8  # that a member had and its host may still say

_SCHEMA = (
    """
    CREATE TABLE member (
        key BLOB PRIMARY KEY CHECK (length(key) = 32),
        name TEXT NOT NULL,
        address TEXT,
        created REAL NOT NULL,
        last_seen REAL,
        revoked REAL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX member_name ON member (name) WHERE revoked IS NULL;
    CREATE UNIQUE INDEX member_address ON member (address) WHERE address IS NOT NULL;
    CREATE TABLE invite (
        id BLOB PRIMARY KEY CHECK (length(id) = 8),
        psk BLOB NOT NULL CHECK (length(psk) = 32),
        name TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL NOT NULL,
        used REAL,
        used_by BLOB
    ) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
    """,
    """
    ALTER TABLE member ADD COLUMN disabled REAL;
    ALTER TABLE member ADD COLUMN former TEXT NOT NULL DEFAULT ''
    """,
    "ALTER TABLE member ADD COLUMN routes TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE lease (
        mac BLOB PRIMARY KEY CHECK (length(mac) = 6),
        address TEXT NOT NULL UNIQUE,
        port TEXT NOT NULL,
        hostname TEXT NOT NULL,
        granted REAL NOT NULL,
        expires REAL NOT NULL
    ) WITHOUT ROWID
    """,
    "ALTER TABLE member ADD COLUMN switch_key BLOB",
)
_MEMBER = (
    "SELECT name, key, address, created, last_seen, revoked, disabled, former, routes, switch_key "
    "FROM member "
)
_BY_NAME = _MEMBER + "WHERE name = ? AND revoked IS NULL"
_CURRENT = _MEMBER + "WHERE revoked IS NULL"
_COUNT = "SELECT count(*) FROM member WHERE revoked IS NULL"
_OPEN_INVITES = "SELECT count(*) FROM invite WHERE used IS NULL AND expires > ?"
_FORGET_USED = "DELETE FROM invite WHERE used IS NOT NULL AND expires < ?"
_FORGET_UNUSED = (
    "DELETE FROM invite WHERE used IS NULL AND id NOT IN "
    "(SELECT id FROM invite WHERE used IS NULL ORDER BY expires DESC LIMIT ?)"
)
_OTHER_ADDRESSES = "SELECT address, name FROM member WHERE address IS NOT NULL AND key != ?"
_HOLDER = "SELECT name FROM member WHERE address = ?"
_LEASES = "SELECT mac, address, port, hostname, granted, expires FROM lease ORDER BY address"
_LEASED = "SELECT address, mac FROM lease"
_KEEP_LEASE = "INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?)"
_SET = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
_TOUCH = "UPDATE member SET last_seen = ?, switch_key = coalesce(?, switch_key) WHERE key = ?"
_SPEND = "UPDATE invite SET used = ?, used_by = ? WHERE id = ?"
_INVITE = "SELECT id, psk, name, created, expires, used, used_by FROM invite "


T = TypeVar("T")


class Registry:
    """The members of one switch; see the module for what each call promises."""

    def __init__(self, database: Database, max_members: int) -> None:
        self._database = database
        self.max_members = max_members
        # Addresses that no member gets but the one of that name, if there is one.
        self.promised: Mapping[IPv4Address, str] = {}
        self._held: dict[IPv4Address, str] = {}  # addresses of the switch's own, and for what

    @classmethod
    def open(cls, path: Path, *, create: bool = True, max_members: int = 1024) -> Self:
        """Open the registry file; see `Database.open` for what it raises."""
        return cls(Database.open(path, _SCHEMA, create=create), max_members)

    @property
    def writable(self) -> bool:
        """Whether the file could be opened for writing."""
        return self._database.writable

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> int:
        """A number that changes with every commit, whoever makes it."""
        return self._database.version()

    def look_up(self, key: bytes) -> Member | None:
        """The member with this key, revoked ones included."""
        return self._found(Member, _MEMBER + "WHERE key = ?", key)

    def count(self) -> int:
        """How many are members now."""
        return int(self._database.read(_COUNT)[0][0])

    def named(self, name: str) -> Member | None:
        """The member that has this name now."""
        return self._found(Member, _BY_NAME, name)

    def members(self) -> list[Member]:
        """Every member by name, revoked ones after the one that has the name now."""
        order = "ORDER BY name, revoked IS NOT NULL, revoked"
        with self._database.plain_errors():
            return [Member(*row) for row in self._database.read(_MEMBER + order)]

    def current(self) -> list[Member]:
        """Those that are members now."""
        with self._database.plain_errors():
            return [Member(*row) for row in self._database.read(_CURRENT)]

    def invite(self, id: bytes) -> Invite | None:
        """The invite with this id, whether it can still be used or not."""
        return self._found(Invite, _INVITE + "WHERE id = ?", id)

    def open_invites(self, now: float) -> list[Invite]:
        """Those that can be used at `now`, the next to expire first."""
        which = _INVITE + "WHERE used IS NULL AND expires > ? ORDER BY expires, name"
        with self._database.plain_errors():
            return [Invite(*row) for row in self._database.read(which, (now,))]

    def purge(self) -> int:
        """Forget the keys that were revoked; how many. They are strangers' then, and stay out."""
        with self._database.transaction() as run:
            return run("DELETE FROM member WHERE revoked IS NOT NULL", ()).rowcount

    def _found(self, kind: Callable[..., T], statement: str, value: object) -> T | None:
        with self._database.plain_errors():
            rows = self._database.read(statement, (value,))
            return kind(*rows[0]) if rows else None

    def add_invite(self, invite: Invite, *, again: bool = False) -> None:
        """Keep an invite. Its name must be free: a name is given away by `revoke` first. With
        `again` it must be a member's, whose key alone can use the invite, to learn the switch anew.

        Raises:
            ConfigError: no member may have this name.
            EnrolRefused: somebody has it, or there are too many invites.
            NotFound: nobody has it, with `again`.
        """
        check_name(invite.name)
        if not again:
            self._check_reserved(invite.name)
        with self._database.transaction() as run:
            run(_FORGET_USED, (invite.created - _INVITE_KEPT,))
            run(_FORGET_UNUSED, (_UNUSED_KEPT,))
            known = _one(run, _BY_NAME, (invite.name,)) is not None
            if known and not again:
                raise EnrolRefused(
                    ByeCode.NAME_TAKEN,
                    f"{invite.name} is a member already; to tell its host a new key or place of "
                    f"the switch, run `vswitch invite {invite.name} --again`; to give the name to "
                    f"another host, first `vswitch revoke {invite.name}`",
                ).of(Problem.NAME_TAKEN, name=invite.name)
            if again and not known:
                said = f"no member is named {invite.name}: invite it without --again"
                raise NotFound(said).of(Problem.NO_MEMBER, name=invite.name)
            if _one(run, _OPEN_INVITES, (invite.created,))[0] >= _INVITE_LIMIT:
                text = f"{_INVITE_LIMIT} invites are open: wait until some expire"
                raise EnrolRefused(ByeCode.FULL, text).of(Problem.INVITES, most=_INVITE_LIMIT)
            run(
                "INSERT INTO invite (id, psk, name, created, expires) VALUES (?, ?, ?, ?, ?)",
                (invite.id, invite.psk, invite.name, invite.created, invite.expires),
            )

    def _check_reserved(self, name: str) -> None:
        served = self.served()
        if (reason := taken_reason(name, () if served is None else served.reserved)) is not None:
            said = f"no member can be called {name}: {reason}; choose another name"
            raise ConfigError(said).of(Problem.NAME_RESERVED, name=name)

    def enrol(self, key: bytes, name: str, invite_id: bytes, now: float) -> Member:
        """Make `key` a member by an invite, and spend the invite, both or neither.

        Asking again with the same key and name succeeds, with the same invite or another one for
        that name: the first answer may have been lost, or the switch have another key now. An empty
        `name` means the one that the invite is for.

        Raises:
            EnrolRefused: the message says who holds what, or what to do.
        """
        with self._database.transaction() as run:
            if (known := _known(run, key, name)) is not None:
                run(_SPEND + " AND used IS NULL AND name = ?", (now, key, invite_id, known.name))
                return known
            if (row := _one(run, _INVITE + "WHERE id = ?", (invite_id,))) is None:
                raise EnrolRefused(ByeCode.UNKNOWN, "the switch does not know this invite")
            invite = Invite(*row)
            check_invite(invite, name, now)
            member = self._insert(run, key, invite.name, now)
            run(_SPEND, (now, key, invite_id))
        return member

    def enrol_local(self, key: bytes, name: str, now: float) -> Member:
        """Make `key` a member for who has access to this file. Raises as `enrol`, and `ConfigError`
        for a name that no member may have.
        """
        known = self.look_up(key)
        if known is None:
            self._check_reserved(name)
        elif known.revoked is None and known.name == name:
            return known  # nothing has to be written, or can be on a disk that is full
        with self._database.transaction() as run:
            return _known(run, key, name) or self._insert(run, key, name, now)

    def _insert(self, run: Execute, key: bytes, name: str, now: float) -> Member:
        try:
            check_name(name)
        except ValueError as error:
            raise EnrolRefused(ByeCode.PROTOCOL, f"the name cannot be used: {error}") from None
        if holder := _one(run, _BY_NAME, (name,)):
            raise name_taken(Member(*holder))
        if _one(run, _COUNT, ())[0] >= self.max_members:
            raise EnrolRefused(
                ByeCode.FULL,
                f"the switch has its {self.max_members} members: revoke some, or serve with a "
                "higher --max-members",
            )
        run("INSERT INTO member (key, name, created) VALUES (?, ?, ?)", (key, name, now))
        return Member(name, key, None, now, None, None)

    def lease(self, key: bytes, wish: str, subnet: IPv4Network) -> str | None:
        """The member's address as `10.77.0.2/24`, the same each time while it fits the subnet.

        Args:
            key: of a member.
            wish: "auto", "none" (gives the address back), or an address with prefix length.
            subnet: of the switch; an address outside it is replaced by a new one.

        Raises:
            EnrolRefused: no member, the address cannot be had, or none is left.
        """

        def choose(read: Callable[[str, Sequence[Any]], Iterable[Any]]) -> tuple[str | None, bool]:
            rows = list(read(_MEMBER + "WHERE key = ? AND revoked IS NULL", (key,)))
            if not rows:
                raise EnrolRefused(ByeCode.UNKNOWN)
            member = Member(*rows[0])
            others = read(_OTHER_ADDRESSES, (key,))
            holders = {IPv4Address(address): holder for address, holder in others} | self._held
            for leased, mac in read(_LEASED, ()):
                holders.setdefault(IPv4Address(leased), f"the machine {format_mac(mac)}, by DHCP")
            for kept, whom in self.promised.items():
                if whom != member.name:
                    holders.setdefault(kept, f"a reservation for {whom}")
            address = choose_address(member, wish, subnet, holders)
            text = None if address is None else str(address)
            return text, text == member.address

        # Who keeps its address comes in on a full disk, too.
        with self._database.plain_errors():
            text, unchanged = choose(self._database.read)
        if not unchanged:
            with self._database.transaction() as run:
                text, unchanged = choose(run)
                if not unchanged:
                    run("UPDATE member SET address = ? WHERE key = ?", (text, key))
        return None if text is None else f"{text}/{subnet.prefixlen}"

    def leases(self) -> list[Lease]:
        """All that machines have by DHCP."""
        with self._database.plain_errors():
            return [Lease(*row) for row in self._database.read(_LEASES)]

    def keep_lease(self, lease: Lease) -> bool:
        """Have the machine have the lease, in place of its older one; False if a member has the
        address, or another machine. Then it has none.
        """
        with self._database.transaction() as run:
            run("DELETE FROM lease WHERE mac = ?", (lease.mac,))
            if IPv4Address(lease.address) in self._held:
                return False
            if _one(run, _HOLDER, (lease.address,)) or _one(
                run, _LEASED + " WHERE address = ?", (lease.address,)
            ):
                return False
            run(_KEEP_LEASE, astuple(lease))
        return True

    def end_leases(self, macs: Iterable[bytes]) -> None:
        """Forget the leases of these machines."""
        with self._database.transaction() as run:
            for mac in macs:
                run("DELETE FROM lease WHERE mac = ?", (mac,))

    def hold(self, subnet: IPv4Network, owner: str) -> IPv4Address:
        """An address that no member has or gets while this object is open, the highest; the same
        one each time for the same owner, a port of the switch. `VswitchError` if none is free.
        """
        with self._database.plain_errors():
            rows = self._database.read(_OTHER_ADDRESSES, (b"",))
            leased = self._database.read(_LEASED)
            taken = {IPv4Address(address) for address, _ in (*rows, *leased)} | self._held.keys()
            taken |= self.promised.keys()
        for address, holder in self._held.items():
            if holder == owner and address in subnet:
                return address
        if (free := highest_free(subnet, taken)) is None:
            raise VswitchError(
                f"all addresses of {subnet} are given away, and {owner} needs one: revoke members, "
                "or serve with a larger --subnet"
            )
        self._held = {**self._held, free: owner}  # other threads read it
        return free

    @property
    def held(self) -> Mapping[IPv4Address, str]:
        """Addresses of the switch's own, and for what."""
        return self._held

    def revoke(self, name: str, now: float) -> Member | None:
        """Refuse this member's key from now on, free its name, and cancel its open invites.

        Returns the member, or None if there were only invites for this name.

        Raises:
            NotFound: neither a member nor an open invite has this name.
        """
        with self._database.transaction() as run:
            # Expired ones, too: by a clock that is right again they might be open.
            cancelled = run("DELETE FROM invite WHERE name = ? AND used IS NULL", (name,)).rowcount
            row = _one(run, _BY_NAME, (name,))
            if row is None and not cancelled:
                raise _nobody(name)
            run(
                "UPDATE member SET revoked = ?, address = NULL, routes = '' "
                "WHERE name = ? AND revoked IS NULL",
                (now, name),
            )
        return None if row is None else self.look_up(row[1])

    def rename(self, name: str, new: str, first: Callable[[], None] = lambda: None) -> Member:
        """Give a member another name; key and address stay, and its open invites are for the new
        name. Its host may go on to say the old one. `first` is called before, once it can be done.

        Raises:
            ConfigError: no member may have the new name.
            EnrolRefused: somebody has it.
            NotFound: nobody has the old one.
        """
        check_name(new)
        self._check_reserved(new)
        with self._database.transaction() as run:
            if (row := _one(run, _BY_NAME, (name,))) is None:
                raise _nobody(name)
            member = Member(*row)
            if holder := _one(run, _BY_NAME, (new,)):
                raise name_taken(Member(*holder))
            former = [each for each in member.former.split() if each not in (name, new)]
            said = " ".join([*former, name][-_FORMER_NAMES:])
            first()
            run("UPDATE member SET name = ?, former = ? WHERE key = ?", (new, said, member.key))
            run("UPDATE invite SET name = ? WHERE name = ? AND used IS NULL", (new, name))
        return evolve(member, name=new, former=said)

    def disable(self, name: str, since: float | None) -> Member:
        """Keep a member out from `since` on, or with None let it in again. It keeps its place.

        Raises:
            NotFound: nobody has this name.
        """
        with self._database.transaction() as run:
            if (row := _one(run, _BY_NAME, (name,))) is None:
                raise _nobody(name)
            member = Member(*row)
            run("UPDATE member SET disabled = ? WHERE key = ?", (since, member.key))
        return evolve(member, disabled=since)

    def approve(self, name: str, networks: Iterable[Network]) -> Member:
        """Let others reach these networks, and no others, through a member that offers them.

        Raises:
            ConfigError: one cannot be approved, or there are too many of all members.
            NotFound: nobody has this name.
        """
        served, wanted = self.served(), tuple(networks)
        lan, switch = (
            ((), ()) if served is None else ((served.subnet, served.prefix), served.addresses)
        )
        with self._database.transaction() as run:
            if (row := _one(run, _BY_NAME, (name,))) is None:
                raise _nobody(name)
            member = Member(*row)
            rows = run(_CURRENT + " AND key != ?", (member.key,))
            others = {each.name: each.routes for each in (Member(*row) for row in rows)}
            for network in wanted:
                reason = refuse_approval(network, others, lan, switch)
                if reason is not None:
                    said = f"{network} cannot be behind {name}: {reason}"
                    raise ConfigError(said).of(
                        Problem.BEHIND, network=network, name=name, reason=reason
                    )
            if len(wanted) + sum(map(len, others.values())) > MAX_GATEWAYS:
                said = f"a LAN has at most {MAX_GATEWAYS} networks behind members"
                raise ConfigError(said).of(Problem.GATEWAYS, most=MAX_GATEWAYS)
            text = " ".join(map(str, wanted))
            run("UPDATE member SET routes = ? WHERE key = ?", (text, member.key))
        return evolve(member, routes=wanted)

    def leave(self, key: bytes) -> None:
        """Forget a member who wants that: key, name and address are strangers' again."""
        with self._database.transaction() as run:
            run("DELETE FROM member WHERE key = ? AND revoked IS NULL", (key,))

    def touch(self, keys: Iterable[bytes], now: float, switch_key: bytes | None = None) -> None:
        """Note that these members were connected at `now`, by that key of the switch."""
        with self._database.transaction() as run:
            for key in keys:
                run(_TOUCH, (now, switch_key, key))

    def cancel_invites(self, before: float) -> None:
        """Forget invites that nobody has used and that were made before: they name a key of the
        switch that is no more.
        """
        with self._database.transaction() as run:
            run("DELETE FROM invite WHERE used IS NULL AND created < ?", (before,))

    def record_served(self, served: LastServed) -> None:
        """Note how the switch runs, for `invite` and for joins on the same host, if that is new."""
        if self.served() == served:
            return
        with self._database.transaction() as run:
            run(_SET, ("listen", " ".join(each.text() for each in served.listen)))
            run(_SET, ("public", " ".join(each.text() for each in served.public)))
            run(_SET, ("subnet", str(served.subnet)))
            run(_SET, ("reserved", " ".join(served.reserved)))
            run(_SET, ("https", served.https))
            run(_SET, ("lan", served.lan))
            run(_SET, ("key", "" if served.key is None else served.key.text()))
            run(_SET, ("origin", "" if served.origin is None else served.origin.text()))
            grace = served.grace
            said = "" if grace is None else f"{grace.old.text()} {grace.since!r} {grace.until!r}"
            run(_SET, ("grace", said))

    def served(self) -> LastServed | None:
        """What `record_served` noted last, or None if the switch never ran."""
        with self._database.plain_errors():
            rows = dict(self._database.read("SELECT name, value FROM meta"))
            if "listen" not in rows:
                return None
            public = tuple(map(HostPort.parse, rows["public"].split()))
            subnet = parse_subnet(rows["subnet"])
            reserved = tuple(rows.get("reserved", "").split())
            key = PublicKey.from_text(rows["key"]) if rows.get("key") else None
            listen = tuple(map(HostPort.parse, rows["listen"].split()))
            https, lan = rows.get("https", ""), rows.get("lan", "default")
            origin = PublicKey.from_text(rows["origin"]) if rows.get("origin") else None
            grace = None
            if rows.get("grace"):
                old, since, until = rows["grace"].split(" ")
                grace = Grace(PublicKey.from_text(old), float(since), float(until))
            return LastServed(listen, public, subnet, reserved, key, https, lan, origin, grace)


def _one(run: Execute, statement: str, values: Sequence[Any]) -> Any:
    return run(statement, values).fetchone()


def _nobody(name: str) -> NotFound:
    said = f"no member is named {name}: see `vswitch members`"
    return NotFound(said).of(Problem.NO_MEMBER, name=name)


def _known(run: Execute, key: bytes, name: str) -> Member | None:
    row = _one(run, _MEMBER + "WHERE key = ?", (key,))
    return None if row is None else check_known(Member(*row), name)
