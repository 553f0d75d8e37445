"""Rules as text: what they mean, in which order, what is refused and with which words."""

import ipaddress

import pytest

from vswitch.errors import ConfigError
from vswitch.features.rule_set import Question, ask, read_rules
from vswitch.registry.rules import taken_reason


def packed(text):
    return ipaddress.ip_address(text).packed


def allowed(rules, source, to, protocol=6, target=80, *, ip="10.77.0.2", to_ip="10.77.0.3"):
    question = Question((source,), (to,), packed(ip), packed(to_ip), protocol, target)
    return rules.judge(question)[0]


def read(*lines, **more):
    return read_rules({"list": list(lines), **more}, "f.toml: rules")


def test_without_rules_all_is_allowed_and_nothing_is_forbidden():
    rules = read_rules({}, "rules")
    assert allowed(rules, "pc1", "pc2")
    assert not rules.forbids


def test_the_first_rule_that_fits_decides():
    rules = read("allow pc1 -> nas tcp 22,8000-8010", "deny any -> nas", "allow any -> nas udp")
    assert allowed(rules, "pc1", "nas", target=22)
    assert allowed(rules, "pc1", "nas", target=8010)
    assert not allowed(rules, "pc1", "nas", target=8011)
    assert not allowed(rules, "pc2", "nas", target=22)
    assert not allowed(rules, "pc2", "nas", 17, 53)
    assert allowed(rules, "nas", "pc2")
    assert rules.forbids


def test_what_no_rule_says_the_default_does():
    rules = read("allow pc1 -> any", default="deny")
    assert allowed(rules, "pc1", "pc2")
    assert not allowed(rules, "pc2", "pc1")
    assert rules.number(None) == "the default of [rules]: deny"


def test_groups_and_the_switchs_own_host():
    rules = read("deny lab -> switch", groups={"lab": ["pc1", "pc2"]})
    assert not allowed(rules, "pc2", "local")
    assert allowed(rules, "pc3", "local")
    assert rules.named == {"pc1", "pc2", "local"}


def test_a_question_is_answered_by_the_line_that_decides():
    rules = read("allow pc1 -> nas tcp 22", "deny office -> nas", groups={"office": ["pc1", "pc2"]})
    assert ask(rules, "pc1 -> nas tcp 22") == (True, "rule 1: allow pc1 -> nas tcp 22")
    assert ask(rules, "office -> nas tcp 22") == (False, "rule 2: deny office -> nas")
    assert ask(rules, "pc3 -> nas") == (True, "the default of [rules]: allow")
    many = read(groups={name: [f"{name}{i}" for i in range(101)] for name in ("a", "b")})
    for text, why in (
        ("pc1 nas tcp 22", "WHO -> WHO"),
        ("pc1 -> nas tcp 22,80", "of one port"),
        ("pc1 -> nas foo", "no protocol"),
    ):
        with pytest.raises(ConfigError, match=why):
            ask(rules, text)
    with pytest.raises(ConfigError, match="too many pairs of names: 10201"):
        ask(many, "a -> b")


@pytest.mark.parametrize("name", ["any", "internet", "switch"])
def test_what_a_rule_has_a_word_for_nobody_is_called(name):
    assert "a word of rules" in taken_reason(name, ())
    assert not allowed(read(f"deny {name} -> pc2"), "local", "pc2", ip="1.1.1.1")
    assert allowed(read(f"deny {name} -> pc2"), name, "pc2") == (name != "any")


def test_networks_and_the_internet_go_by_the_address():
    rules = read("deny any -> internet", "deny any -> 192.168.1.0/24", "deny any -> fd00:1::/64")
    for address, passes in [
        ("1.1.1.1", False),
        ("2606:4700::1", False),
        ("192.168.1.7", False),
        ("192.168.2.7", True),
        ("fd00:1::7", False),
        ("fd00:2::7", True),
        ("10.77.0.3", True),
        ("224.0.0.251", True),
        ("ff02::fb", True),
        ("ff0e::101", True),
        ("255.255.255.255", True),
    ]:
        own = "10.77.0.2" if "." in address else "fe80::1"
        assert allowed(rules, "pc1", "gw", ip=own, to_ip=address) == passes, address


def test_icmp_is_of_both_versions():
    rules = read("deny any -> any icmp echo-request")
    assert not allowed(rules, "pc1", "pc2", 1, 8)
    assert not allowed(rules, "pc1", "pc2", 58, 128, ip="fe80::1", to_ip="fe80::2")
    assert allowed(rules, "pc1", "pc2", 1, 0)
    assert allowed(rules, "pc1", "pc2", 58, 8, ip="fe80::1", to_ip="fe80::2")


def test_types_of_icmpv6_alone():
    rules = read("deny any -> any 58 echo-request,4")
    assert not allowed(rules, "pc1", "pc2", 58, 128, ip="fe80::1", to_ip="fe80::2")
    assert not allowed(rules, "pc1", "pc2", 58, 4, ip="fe80::1", to_ip="fe80::2")
    assert allowed(rules, "pc1", "pc2", 58, 8, ip="fe80::1", to_ip="fe80::2")
    assert allowed(rules, "pc1", "pc2", 1, 8)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("permit any -> any", "write allow or deny WHO -> WHO"),
        ("deny any any", "write allow or deny WHO -> WHO"),
        ("deny any -> any tcp 70000", "'70000' is no port"),
        ("deny any -> any tcp 9-8", "the first port is above the last"),
        ("deny any -> any gre 5", "'gre' is no protocol"),
        ("deny any -> any 47 5", "47 has no ports"),
        ("deny any -> any tcp 80, 443", "is too much: ports are joined by commas"),
        ("deny any -> 10.0.0.1/8", "has host bits set"),
        ("deny any -> any icmp ping", "'ping' is no type of ICMP"),
        ("deny a_b! -> any", "'a_b!' is no name, group or network"),
        ("deny any -> any tcp \u0661", "is no port"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_its_reason(line, said):
    with pytest.raises(ConfigError) as caught:
        read("allow any -> any", line)
    assert str(caught.value).startswith("f.toml: rules.list 2, ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rules": []}, "rules is not known: there are default, groups, list and tests"),
        ({"default": "drop"}, "default = 'drop': write allow or deny"),
        ({"list": "allow any -> any"}, "list: must be a list of texts"),
        ({"list": ["allow any -> any"] * 1025}, "1025 are too many: at most 1024"),
        ({"groups": {"any": ["pc1"]}}, "'any' cannot be the name of a group"),
        ({"groups": {"lab": []}}, "groups.lab: must be a list of names"),
        ({"groups": {"lab": "pc1"}}, "groups.lab: must be a list of names"),
        ({"groups": ["lab"]}, "groups: must be a table"),
        ({"tests": ["pc1 to pc2 allowed"]}, "write WHO -> WHO"),
        ({"tests": ["pc1 -> pc2 tcp 1-2 allowed"]}, "a test is of one port"),
        ([], "must be a table: write [rules]"),
    ],
)
def test_a_table_that_is_wrong(table, said):
    with pytest.raises(ConfigError) as caught:
        read_rules(table, "f.toml: rules")
    assert said in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        read_rules({"default": "no", "list": ["x", "y"]}, "rules")
    assert len(str(caught.value).splitlines()) == 3


def test_rules_of_which_a_test_fails_are_refused_and_the_rule_is_named():
    groups = {"lab": ["pc1", "pc2"]}
    lines = ["allow lab -> nas tcp 22", "deny any -> nas"]
    tests = ["lab -> nas tcp 22 allowed", "pc3 -> nas tcp 22 denied", "lab -> nas denied"]
    assert len(read(*lines, groups=groups, tests=tests).tests) == 3
    with pytest.raises(ConfigError) as caught:
        read(*lines, groups=groups, tests=[*tests, "pc2 -> nas tcp 22 denied"])
    assert str(caught.value) == (
        "f.toml: rules.tests 4, 'pc2 -> nas tcp 22 denied': it is allowed, by rule 1: allow lab -> "
        "nas tcp 22"
    )
    with pytest.raises(ConfigError, match=r"it is allowed, by the default of \[rules\]: allow"):
        read(tests=["pc1 -> pc2 icmp echo-request denied"])
    read("deny pc1 -> internet", tests=["pc1 -> internet tcp 443 denied", "pc1 -> pc2 allowed"])
    read("deny any -> 10.9.0.0/16", tests=["any -> 10.9.0.0/16 tcp 1 denied"])


def test_tests_ask_so_many_questions_and_no_more():
    groups = {"many": [f"pc{number}" for number in range(100)]}
    test = "many -> many tcp 22 allowed"
    assert len(list(read(groups=groups, tests=[test]).tests[0].questions())) == 10_000
    groups["all"] = [f"pc{number}" for number in range(100_000)]
    for tests in ([test, "pc1 -> pc2 allowed"], ["all -> all denied"]):
        with pytest.raises(ConfigError) as caught:
            read(groups=groups, tests=tests)
        assert str(caught.value).startswith(f"f.toml: rules.tests {len(tests)}, ")
        assert "one for each pair of names, are too many: at most 10000" in str(caught.value)


def test_many_rules_have_fewer_tests_and_few_ports_each():
    groups = {"many": [f"pc{number}" for number in range(50)]}
    rules = ["allow pc1 -> pc2"] * 1000
    read(*rules[:800], groups=groups, tests=["many -> many allowed"])
    with pytest.raises(ConfigError, match="too many: at most 2000 for so many rules"):
        read(*rules, groups=groups, tests=["many -> many allowed"])
    made = read(*rules, groups=groups)
    with pytest.raises(ConfigError, match="too many pairs of names: 50"):
        ask(made, "many -> pc1", of=41)
    assert ask(made, "many -> pc1", of=40)[0]
    read("deny any -> any tcp " + ",".join(map(str, range(64))))
    for service in ("tcp", "icmp"):
        with pytest.raises(ConfigError, match="more than 64 ports or types"):
            read(f"deny any -> any {service} " + ",".join(map(str, range(65))))
