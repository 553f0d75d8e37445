"""What `[names]` and `names_allowed` may say."""

import pytest

from vswitch.errors import ConfigError
from vswitch.features.name_policy import allows
from vswitch.features.settings import Settings
from vswitch.services.name_settings import NamesSettings, names_settings


def test_the_table():
    assert names_settings({}, "") == NamesSettings(
        enabled=True, domain="lan", forward=(), records=()
    )
    said = names_settings(
        {"names": {"domain": "Office.Lan.", "forward": ["9.9.9.9", "2620:fe::fe"]}},
        "f.toml: ",
    )
    assert (said.domain, said.forward) == ("office.lan", ("9.9.9.9:53", "[2620:fe::fe]:53"))
    assert names_settings({"names": {"forward": "system"}}, "").forward == ("system",)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("domain", "local", "another meaning"),
        ("domain", "10.in-addr.arpa", "another meaning"),
        ("domain", "a b", "no domain"),
        ("forward", ["dns.example.com"], "no resolver"),
        ("forward", ["1.1.1.1"] * 5, "at most"),
        ("records", "www CNAME pc1", "list of lines"),
        ("recrods", [], "did you mean 'records'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(key, value, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        names_settings({"names": {key: value}}, "f.toml: ")
    assert str(caught.value).startswith("f.toml: names")
    assert names_settings({"names": {"domain": "home.arpa"}}, "").domain == "home.arpa"


def test_the_policy_of_a_port():
    settings = Settings().with_port("pc1", {"names_allowed": "Example.com,*.debian.org"})
    allowed = settings.names_allowed("pc1")
    assert allowed == ("example.com", "debian.org")
    assert settings.names_allowed("pc2") is None
    assert allows(allowed, ["www", "example", "com"])
    assert allows(allowed, ["debian", "org"])
    assert not allows(allowed, ["badexample", "com"])
    assert allows(None, ["x"])
    everybody = settings.with_port("*", {"names_allowed": "none"})
    assert everybody.names_allowed("pc2") == ()
    assert everybody.names_allowed("pc1") == allowed
    assert everybody.with_port("pc2", {"names_allowed": "any"}).names_allowed("pc2") is None
    with pytest.raises(ConfigError, match="no domain"):
        Settings().with_port("pc1", {"names_allowed": "a b"})
