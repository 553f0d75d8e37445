"""Which ports want a group: members, routers, queriers, leaves, and what is bounded."""

import ipaddress

from vswitch.features.snooping import (
    MAX_GROUPS,
    MAX_GROUPS_OF_PORT,
    MEMBERSHIP,
    NEW_PORT,
    OTHER_QUERIER,
    QUERY_INTERVAL,
    STARTUP_INTERVAL,
    Query,
    Snooping,
)
from vswitch.frames.igmp import GroupMessage, Says, group_mac


def packed(text):
    return ipaddress.ip_address(text).packed


G, H = packed("239.1.2.3"), packed("239.129.2.3")  # of one MAC address
MAC = group_mac(G)
QUERY = GroupMessage(Says.QUERY, 4, response_time=10.0)


def joins(*groups):
    return GroupMessage(Says.REPORT, 4, joins=groups)


def leaves(*groups):
    return GroupMessage(Says.REPORT, 4, leaves=groups)


def heard(snooping, port, message, now=0.0, *, vlan=0, alone=False):
    return snooping.heard(port, vlan, message, now, alone=alone)


def test_a_group_goes_everywhere_until_somebody_reports_it():
    snooping = Snooping()
    assert snooping.wanted(0, MAC) is None
    heard(snooping, 2, joins(G))
    heard(snooping, 3, joins(G))
    assert snooping.wanted(0, MAC) == (2, 3)
    assert snooping.wanted(7, MAC) is None  # in another VLAN
    heard(snooping, 5, QUERY)
    heard(snooping, 6, GroupMessage(Says.QUERY, 4, anonymous=True))  # another switch
    heard(snooping, 7, GroupMessage(Says.ROUTER, 4))
    assert snooping.wanted(0, MAC) == (2, 3, 5, 7)
    assert snooping.routers(0) == (5, 7)
    snooping.port_gone(2)
    assert snooping.wanted(0, MAC) == (3, 5, 7)
    snooping.expire(MEMBERSHIP - 1)
    assert snooping.wanted(0, MAC) == (3,)  # routers are silent
    snooping.expire(MEMBERSHIP)
    assert snooping.wanted(0, MAC) is None
    assert snooping.groups() == {}


def test_groups_of_one_mac_address_are_kept_apart():
    snooping = Snooping()
    heard(snooping, 2, joins(G, H))
    heard(snooping, 2, leaves(H), alone=True)
    assert snooping.wanted(0, MAC) == (2,)
    heard(snooping, 2, leaves(G), alone=True)
    assert snooping.wanted(0, MAC) is None


def test_the_switch_asks_while_nobody_else_does():
    snooping = Snooping()
    asked = [Query(0, 4, 10.0), Query(0, 6, 10.0)]
    assert snooping.queries_due({0}, 0.0) == asked
    assert snooping.queries_due({0}, STARTUP_INTERVAL - 1) == []
    assert snooping.queries_due({0}, STARTUP_INTERVAL) == asked
    now = STARTUP_INTERVAL + QUERY_INTERVAL
    assert snooping.queries_due({0}, now - 1) == []
    assert snooping.queries_due({0, 7}, now) == [*asked, Query(7, 4, 10.0), Query(7, 6, 10.0)]
    heard(snooping, 5, QUERY, now)
    assert [q.version for q in snooping.queries_due({0}, now + QUERY_INTERVAL)] == [6]
    assert [q.version for q in snooping.queries_due({0}, now + OTHER_QUERIER)] == [4, 6]


def test_a_leave_is_checked_unless_the_station_is_alone():
    snooping = Snooping()
    snooping.queries_due({0}, 0.0)
    heard(snooping, 2, joins(G))
    heard(snooping, 3, joins(G))
    assert heard(snooping, 2, leaves(G), 1.0, alone=True) == []
    assert snooping.wanted(0, MAC) == (3,)
    question = Query(0, 4, 1.0, G, 3)
    assert heard(snooping, 3, leaves(G), 10.0) == [question]
    assert question in snooping.queries_due({0}, 11.0)
    heard(snooping, 3, joins(G), 11.5)  # another one there wants it
    snooping.expire(14.0)
    assert snooping.wanted(0, MAC) == (3,)
    heard(snooping, 3, leaves(G), 20.0)
    snooping.expire(23.0)
    assert snooping.wanted(0, MAC) is None
    assert heard(snooping, 3, leaves(G), 30.0) == []


def test_with_another_querier_its_question_ends_a_membership():
    snooping = Snooping()
    snooping.queries_due({0}, 0.0)
    heard(snooping, 5, QUERY)
    heard(snooping, 2, joins(G))
    assert heard(snooping, 2, leaves(G), 1.0) == []
    heard(snooping, 5, GroupMessage(Says.QUERY, 4, group=G, response_time=1.0), 1.1)
    snooping.expire(3.0)
    assert snooping.wanted(0, MAC) == (2, 5)
    snooping.expire(3.2)
    assert snooping.wanted(0, MAC) is None


def test_a_new_port_gets_everything_until_it_has_answered():
    snooping = Snooping()
    snooping.queries_due({0}, 0.0)
    heard(snooping, 2, joins(G))
    asked = snooping.port_came(4, 1.0)
    assert [(query.version, query.port) for query in asked] == [(4, 4), (6, 4)]
    assert snooping.wanted(0, MAC) == (2, 4)
    snooping.expire(1.0 + NEW_PORT)
    assert snooping.wanted(0, MAC) == (2,)
    heard(snooping, 5, QUERY, 10.0)  # from now on another one asks, when it likes
    assert [query.version for query in snooping.port_came(6, 10.0)] == [6]
    snooping.expire(10.0 + QUERY_INTERVAL)
    assert snooping.wanted(0, MAC) == (2, 5, 6)


def test_link_local_groups_go_everywhere_even_where_they_share_an_address():
    snooping = Snooping()
    wide, narrow = packed("ff15::8888:1"), packed("ff02::8888:1")
    snooping.heard(2, 0, GroupMessage(Says.REPORT, 6, joins=(wide,)), 0.0, alone=False)
    assert snooping.wanted(0, group_mac(wide)) == (2,)
    snooping.heard(3, 0, GroupMessage(Says.REPORT, 6, joins=(narrow,)), 0.0, alone=False)
    assert snooping.wanted(0, group_mac(wide)) is None
    heard(snooping, 2, joins(packed("224.0.0.251"), packed("239.255.255.250")))
    assert snooping.wanted(0, group_mac(packed("224.0.0.251"))) is None
    assert len(snooping.groups()) == 1


def test_groups_beyond_the_limits_are_flooded():
    snooping = Snooping()
    many = [packed(f"239.2.{n // 256}.{n % 256}") for n in range(MAX_GROUPS_OF_PORT + 1)]
    heard(snooping, 3, joins(G))
    heard(snooping, 2, joins(*many))
    assert snooping.wanted(0, group_mac(many[0])) == (2,)
    assert snooping.wanted(0, group_mac(many[-1])) is None
    assert snooping.wanted(0, MAC) == (2, 3)  # it has asked for more than is kept
    for port in range(10, 60):
        heard(snooping, port, joins(*(packed(f"239.{port}.0.{n}") for n in range(256))))
    assert len(snooping.groups()) == MAX_GROUPS
    assert snooping.wanted(0, group_mac(packed("239.59.0.200"))) is None
    for port in range(70):
        snooping.port_gone(port)
    assert snooping.groups() == {}
    assert snooping._count == {}
    for number in range(3 * MAX_GROUPS):
        snooping.wanted(0, b"\x01\x00\x5e" + number.to_bytes(3, "big"))
    assert len(snooping._wanted) <= MAX_GROUPS
