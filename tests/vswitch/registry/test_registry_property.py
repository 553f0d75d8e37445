"""The registry against a model: names and addresses unique, invites used once, refusals exact."""

from __future__ import annotations

import tempfile
from ipaddress import IPv4Network
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vswitch.errors import NotFound
from vswitch.members.protocol import ByeCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, Invite

SUBNET = IPv4Network("10.0.0.0/29")  # five members fit
NAMES = st.sampled_from(["a", "b", "c", "d"])
KEYS = st.integers(0, 7).map(lambda n: bytes([n]) * 32)
IDS = st.integers(0, 9).map(lambda n: bytes([n]) * 8)
WISHES = st.sampled_from(["auto", "none", *(f"10.0.0.{n}/29" for n in range(8))])


class RegistryMachine(RuleBasedStateMachine):
    @initialize()
    def open(self):
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "r"
        self.registry = Registry.open(path, max_members=6)
        self.other = Registry.open(path, max_members=6)  # another process at the same file
        self.now = 1000.0
        self.invites = {}  # id -> [name, expires, used_by]
        self.members = {}  # key -> name, those not revoked
        self.revoked = set()
        self.addresses = {}  # key -> address

    def teardown(self):
        if hasattr(self, "registry"):
            self.registry.close()
            self.other.close()
            self.directory.cleanup()

    def refused(self, call, *args):
        try:
            call(*args)
        except EnrolRefused as error:
            return error.code
        return None

    @rule(id=IDS, name=NAMES, life=st.integers(1, 20))
    def invite(self, id, name, life):
        if id in self.invites:
            return
        invite = Invite(id, bytes(32), name, self.now, self.now + life)
        code = self.refused(self.other.add_invite, invite)
        if name in self.members.values():
            assert code == ByeCode.NAME_TAKEN
        else:
            assert code is None
            self.invites[id] = [name, self.now + life, None]

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds):
        self.now += seconds

    @rule(key=KEYS, name=NAMES, id=IDS)
    def enrol(self, key, name, id):
        code = self.refused(self.registry.enrol, key, name, id, self.now)
        assert code == self.expected(key, name, id)
        if code is None:
            self.members[key] = name
            if self.invites.get(id, [None])[0] == name and self.invites[id][2] is None:
                self.invites[id][2] = key

    def expected(self, key, name, id):
        if key in self.revoked:
            return ByeCode.REVOKED
        if key in self.members:
            return None if self.members[key] == name else ByeCode.NAME_TAKEN
        if id not in self.invites:
            return ByeCode.UNKNOWN
        wanted, expires, used_by = self.invites[id]
        if used_by is not None:
            return ByeCode.INVITE_USED
        if self.now >= expires:
            return ByeCode.INVITE_EXPIRED
        if name != wanted:
            return ByeCode.UNKNOWN
        if name in self.members.values():
            return ByeCode.NAME_TAKEN
        return None  # four names and max_members 6: never full

    @rule(name=NAMES)
    def revoke(self, name):
        keys = [key for key, held in self.members.items() if held == name]
        pending = [
            id for id, (wanted, _, used) in self.invites.items() if wanted == name and used is None
        ]
        try:
            member = self.other.revoke(name, self.now)
        except NotFound:
            assert not keys
            assert not pending
            return
        assert keys or pending
        assert (member.key if member else None) == (keys[0] if keys else None)
        for id in pending:
            del self.invites[id]
        for key in keys:
            del self.members[key]
            self.addresses.pop(key, None)
            self.revoked.add(key)

    @rule(key=KEYS, wish=WISHES)
    def lease(self, key, wish):
        others = {address for holder, address in self.addresses.items() if holder != key}
        code, got = None, None
        try:
            got = self.registry.lease(key, wish, SUBNET)
        except EnrolRefused as error:
            code = error.code
        if key not in self.members:
            assert code == ByeCode.UNKNOWN
            return
        if wish == "auto":
            full = len(others) == 5 and key not in self.addresses
            assert code == (ByeCode.FULL if full else None)
        elif wish != "none":
            reserved = wish in ("10.0.0.0/29", "10.0.0.1/29", "10.0.0.7/29")
            assert code == (ByeCode.ADDRESS_TAKEN if reserved or wish in others else None)
        if code is not None:
            return
        assert got not in others
        if wish == "none":
            assert got is None
            self.addresses.pop(key, None)
            return
        if wish == "auto":
            assert got == self.addresses.get(key, got)
        else:
            assert got == wish
        self.addresses[key] = got

    @invariant()
    def the_same_as_the_model(self):
        if not hasattr(self, "registry"):
            return
        for registry in (self.registry, self.other):
            rows = registry.members()
            live = [row for row in rows if row.revoked is None]
            assert {row.key: row.name for row in live} == self.members
            assert len({row.name for row in live}) == len(live)
            assert {row.key for row in rows if row.revoked is not None} == self.revoked
            leased = {row.key: f"{row.address}/29" for row in rows if row.address}
            assert leased == self.addresses
            assert len(set(leased.values())) == len(leased)
        for id, (_, _, used_by) in self.invites.items():
            assert self.other.invite(id).used_by == used_by


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=80, stateful_step_count=30)
