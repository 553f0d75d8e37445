"""The FDB against a model that is plain to see: a list of entries, searched from end to end."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vswitch.frames.ethernet import format_mac
from vswitch.switch.fdb import REFRESH_INTERVAL, Fdb

CAPACITY = 6
AGEING = 10.0

MACS = st.integers(0, 9).map(lambda number: b"\x02\0\0\0\0" + bytes([number]))
VLANS = st.integers(0, 1)
PORTS = st.integers(1, 3)


class FdbMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.fdb = Fdb(capacity=CAPACITY, ageing_time=AGEING)
        self.now = 0.0
        self.model = []  # [vlan, mac, port, heard], in the order of being heard

    def find(self, vlan, mac):
        return next((entry for entry in self.model if entry[:2] == [vlan, mac]), None)

    def young(self, entry):
        return self.now - entry[3] < AGEING

    @rule(step=st.sampled_from([0.0, 0.4, 1.0, 4.0]))
    def time_passes(self, step):
        self.now += step

    @rule(vlan=VLANS, mac=MACS, port=PORTS)
    def learn(self, vlan, mac, port):
        entry = self.find(vlan, mac)
        news = entry is None or not self.young(entry) or entry[2] != port
        evicting = entry is None and len(self.model) >= CAPACITY
        before = self.shares()
        assert self.fdb.learn(vlan, mac, port, self.now) is news
        if evicting:
            # Which of several ports that have the most entries pays is not laid down.
            (paid,) = [p for p, n in before.items() if self.shares_of_fdb(p, vlan, mac) == n - 1]
            assert before[paid] == max(before.values())
            self.model.remove(next(entry for entry in self.model if entry[2] == paid))
        if not news and self.now - entry[3] < REFRESH_INTERVAL:
            return
        if entry is not None:
            self.model.remove(entry)
        self.model.append([vlan, mac, port, self.now])

    def shares(self):
        ports = [entry[2] for entry in self.model]
        return {port: ports.count(port) for port in set(ports)}

    def shares_of_fdb(self, port, vlan, mac):
        """Entries of a port, without the one that was just learned; aged ones are not listed."""
        aged = sum(1 for e in self.model if e[2] == port and not self.young(e))
        listed = [
            entry
            for entry in self.fdb.entries(self.now - AGEING * 1000)
            if entry.port == port and (entry.vlan, entry.mac) != (vlan, format_mac(mac))
        ]
        assert len(listed) >= aged - 1
        return len(listed)

    @rule(vlan=VLANS, mac=MACS)
    def lookup(self, vlan, mac):
        entry = self.find(vlan, mac)
        wanted = entry[2] if entry is not None and self.young(entry) else None
        assert self.fdb.lookup(vlan, mac, self.now) == wanted

    @rule()
    def expire(self):
        kept = [entry for entry in self.model if self.young(entry)]
        assert self.fdb.expire(self.now) == len(self.model) - len(kept)
        self.model = kept

    @rule(port=PORTS)
    def refresh(self, port):
        self.fdb.refresh(port, self.now)
        self.model = [entry for entry in self.model if entry[2] != port or self.young(entry)]
        for entry in self.model:
            if entry[2] == port:
                entry[3] = self.now

    @rule(port=st.none() | PORTS, vlan=st.none() | VLANS)
    def flush(self, port, vlan):
        kept = [
            entry
            for entry in self.model
            if (port is not None and entry[2] != port) or (vlan is not None and entry[0] != vlan)
        ]
        assert self.fdb.flush(port=port, vlan=vlan) == len(self.model) - len(kept)
        self.model = kept

    @precondition(lambda self: self.model)
    @invariant()
    def same_entries_in_the_same_order(self):
        for port in (1, 2, 3):
            listed = [(e.vlan, e.mac) for e in self.fdb.entries(self.now) if e.port == port]
            wanted = [
                (vlan, format_mac(mac))
                for vlan, mac, its_port, heard in self.model
                if its_port == port and self.now - heard < AGEING
            ]
            assert listed == wanted

    @invariant()
    def everything_learned_is_accounted_for(self):
        statistics = self.fdb.statistics()
        assert len(self.fdb) == len(self.model) == statistics.entries <= CAPACITY
        gone = statistics.expired + statistics.evicted + statistics.flushed
        assert statistics.learned == statistics.entries + gone


FdbMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestFdb = FdbMachine.TestCase
