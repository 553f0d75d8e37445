"""Join strings, option texts, control requests and TOML files of any kind: refused, never more.

The inputs come from a seeded generator, half of them mutations of valid ones, so that a run can
be repeated exactly and reaches behind the first check.
"""

from __future__ import annotations

import random

import pytest

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort
from vswitch.config.options import TABLES, InviteConfig, JoinConfig, ServeConfig
from vswitch.config.sources import load, options_of
from vswitch.errors import ConfigError
from vswitch.registry.invite import JoinString
from vswitch.serving.plan import plan_networks

ALPHABET = "aAzZ270159@:[]./-_%=\"'\n\t \0{},#é²٣\udc80😀"


def garbage(rng, longest=40):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(longest)))


def mutated(rng, text):
    """The text with a few characters replaced, removed, doubled or moved."""
    letters = list(text)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(letters) + 1)
        match rng.randrange(4):
            case 0:
                letters[place : place + 1] = rng.choice(ALPHABET)
            case 1:
                del letters[place : place + rng.randrange(1, 9)]
            case 2:
                letters[place:place] = letters[place : place + rng.randrange(1, 9)]
            case _:
                letters.insert(place, rng.choice(ALPHABET))
    return "".join(letters)


def test_join_strings():
    rng = random.Random(1)
    refused = 0
    for number in range(10_000):
        valid = JoinString(
            PublicKey(rng.randbytes(32)),
            rng.randbytes(8),
            rng.randbytes(16),
            (HostPort("a.example", 1 + number % 65535),),
        ).encode()
        text = mutated(rng, valid) if number % 2 else garbage(rng, 200)
        try:
            join = JoinString.parse_untrusted(text)
        except ConfigError:
            refused += 1
            continue
        # Only what changes nothing that matters is accepted: white space and upper case.
        assert join.encode() == text.strip()[:101].lower() + text.strip()[101:]
    assert refused > 9_000


class Sealed:
    """A server text of any kind behind a check sum that is right."""

    def __init__(self, where):
        self.where = where

    def text(self):
        return self.where


def test_sealed_addresses():
    rng = random.Random(2)
    for _ in range(5_000):
        where = garbage(rng) if rng.random() < 0.5 else mutated(rng, "[2001:db8::1]:7450")
        text = JoinString(PublicKey(bytes(32)), bytes(8), bytes(16), (Sealed(where),)).encode()
        try:
            join = JoinString.parse_untrusted(text)
        except ConfigError:
            continue
        (server,) = join.servers
        assert 1 <= server.port <= 65535
        assert HostPort.parse(server.text()) == server


SAMPLES = {
    "listen": "[::1]:7450", "public": "a.example:1", "subnet": "10.77.0.0/24", "mtu": "1500",
    "address": "10.77.0.2/24", "bind": "eth0", "dev": "vsw0", "name": "pc1", "expires": "24h",
    "network": "lab", "json": "true",
    "once": "true", "silent": "true", "offload": "off", "lane": "auto", "log_level": "info",
    "log_days": "14", "log_size": "10M", "log_only_file": "true", "foreign": "udp://:9,tcp://:8",
    "max_members": "9", "state": "~/x", "log_file": "/x",
    "via": "udp://[::1]:5555", "bridge": "br0", "bridge_dhcp": "true", "bridge_ra": "true",
    "accept_ra": "addresses",
    "local_port": "true", "user": "nobody",
    "path": "auto", "pq": "require", "proxy": "http://p.example:3128", "proxy_credentials": "/x",
    "https": ":443", "https_certificate": "/c.pem", "https_key": "/k.pem", "https_prefix": "/lan",
    "https_public": "https://a.example:8443/lan",
    "allow_network": "10.77.0.0/24,fd00::/48",
    "advertise": "192.168.1.0/24,exit",
    "accept_routes": "192.168.0.0/16,fd00::/16",
    "exit_node": "pc2", "api": "127.0.0.1:7480", "api_https": "off",
    "no_dns": "true", "allow_domain": "lan,example.com",
}  # fmt: skip


@pytest.mark.parametrize("cls", [ServeConfig, JoinConfig, InviteConfig])
def test_flags_and_variables(cls):
    rng = random.Random(3)
    names = [name for name in options_of(cls) if name != "config"]
    for _ in range(2_000):
        name = rng.choice(names)
        text = garbage(rng) if rng.random() < 0.3 else mutated(rng, SAMPLES[name])
        given = {"name": "pc1"} | {name: text}
        try:
            message = "" if load(cls, given, {}) else "nothing"
        except ConfigError as error:
            message = str(error)
        assert message == "" or message.startswith("--")
        assert len(message.splitlines()) <= 1


def test_networks_in_files(tmp_path):
    rng = random.Random(5)
    valid = (
        '[network.lab]\nsubnet = "10.0.0.0/24"\nlocal_port = true\ndev = "vsw1"\n'
        "[network.lab.port.pc1]\nisolated = true\n[network.lab.switch]\nguard = true\n"
        '[[network.lab.foreign]]\nkind = "udp"\nlisten = ":9"\n'
        '[network.lab.rules]\ndefault = "deny"\n[network.office]\nlocal_port = true\n'
    )
    path = tmp_path / "f.toml"
    right = 0
    for _ in range(1_000):
        path.write_bytes(mutated(rng, valid).encode("utf-8", "surrogateescape"))
        try:
            plans, message = plan_networks(ServeConfig(config=path)), ""
        except ConfigError as error:
            plans, message = (), str(error)
        assert all(line.startswith(str(path)) for line in message.splitlines())
        assert all(576 <= each.config.mtu <= 9000 for each in plans)
        right += bool(plans)
    assert 0 < right < 1_000


def test_files(tmp_path):
    rng = random.Random(4)
    valid = (
        '[serve]\nlisten = "[::]:7450"\nsubnet = "10.0.0.0/24"\nmtu = 1500\nlog_days = 3\n'
        'log_level = "info"\nmax_members = 7\n[join]\nname = "pc1"\n'
    )
    path = tmp_path / "f.toml"
    for _ in range(2_000):
        text = mutated(rng, valid) if rng.random() < 0.9 else garbage(rng, 200)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            config = load(ServeConfig, {"config": str(path)}, {}, table="serve", tables=TABLES)
        except ConfigError as error:
            message = str(error)
        else:
            message = str(path) if 576 <= config.mtu <= 9000 else ""
        assert str(path) in message
