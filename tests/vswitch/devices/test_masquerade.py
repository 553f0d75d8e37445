"""What a gateway lets pass, as nftables is told; what real kernels make of it is in tests/netns."""

from ipaddress import ip_network

from vswitch.devices.masquerade import known_settings, ruleset, table_of

OFF = {"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0", "ipv4/conf/eth0/forwarding": "0"}
ON = dict.fromkeys(OFF, "1")
INNER = (ip_network("192.168.1.0/24"), ip_network("fd99::/48"))
WAY_OUT = (ip_network("0.0.0.0/0"), ip_network("::/0"))
APART = map(ip_network, ("10.0.0.0/8", "10.1.0.0/16", "fd11::/64"))


def forward(networks, apart=(), before=OFF):
    """The rules for what is forwarded."""
    lines = [line.strip() for line in ruleset("pc-1", "vsw0", networks, apart, before).splitlines()]
    first = lines.index("type filter hook forward priority filter; policy accept;")
    return lines[first + 1 : lines.index("}", first)]


def test_only_what_is_offered_is_forwarded_and_only_answers_come_back():
    assert forward(INNER) == [
        "ct state established,related accept",
        'iifname "vsw0" oifname "vsw0" drop',
        'iifname "vsw0" ip daddr { 192.168.1.0/24 } accept',
        'iifname "vsw0" ip6 daddr { fd99::/48 } accept',
        'iifname "vsw0" drop',
        "meta nfproto ipv4 drop",
        "meta nfproto ipv6 drop",
    ]


def test_the_way_out_is_none_to_the_networks_of_the_host():
    rules = forward((*INNER[:1], *WAY_OUT[:1]), APART)
    assert rules[2:5] == [
        'iifname "vsw0" ip daddr { 192.168.1.0/24 } accept',
        'iifname "vsw0" ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.100.100.200/32, 127.0.0.0/8, '
        "169.254.0.0/16 } drop",
        'iifname "vsw0" meta nfproto ipv4 accept',
    ]
    assert not any("ip6" in rule for rule in rules)


def test_what_the_host_forwards_besides_goes_on():
    assert forward(INNER, before=ON)[-1] == 'iifname "vsw0" drop'
    some = {**OFF, "ipv4/conf/docker0/forwarding": "1", "ipv4/conf/all/forwarding": "0"}
    assert forward(INNER[:1], before=some)[-1] == (
        'meta nfproto ipv4 iifname != { "docker0" } drop'
    )


def test_a_family_that_nothing_is_offered_of_is_left_alone():
    assert forward(INNER[:1])[-1] == "meta nfproto ipv4 drop"


def test_a_table_has_the_name_of_its_member():
    assert (table_of("pc1"), table_of("pc-1")) == ("vswitch_pc1", "vswitch_pc_1")


def test_of_a_file_only_settings_that_there_are_are_put_back():
    known = "ipv4/ip_forward"
    said = {known: "0", "../kernel/core_pattern": "|x", "ipv4/tcp_syncookies": "0"}
    assert known_settings({"settings": said}) == {known: "0"}
    for value in ("|x", 1, None, ["0"]):
        assert known_settings({"settings": {known: value}}) == {}
    assert known_settings({"settings": "x"}) == known_settings({}) == {}
