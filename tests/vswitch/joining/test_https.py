"""Real TLS and WebSockets on 127.0.0.1: joined by invite alone, over HTTPS, and so shown."""

import pytest
import trio
from attrs import evolve

from tests.vswitch.joining.test_member_survives import broadcast, free_port
from transport import PublicKey
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, NotReachable, TimedOut
from vswitch.joining import proxies
from vswitch.joining.leave import leave
from vswitch.joining.pipes import over_https
from vswitch.joining.profiles import load
from vswitch.registry.invite import JoinString


async def test_a_member_joins_over_https_alone_and_comes_again(site, nursery):
    port = free_port()
    options = {"https": f"127.0.0.1:{port}", "https_prefix": "/lan", "public": "127.0.0.1"}
    async with site.serving(**options) as running:
        with site.registry() as registry:
            https = registry.served().https_at([HostPort("127.0.0.1", 7450)])
            assert https == (f"https://127.0.0.1:{port}/lan",)
        invite = JoinString.parse_untrusted(site.invite("pc1", running.listen))
        invite = evolve(invite, servers=(HostPort("127.0.0.1", free_port()),), https=https).encode()
        async with site.joined("pc1", None, invite=invite, path="https") as member:
            status = await member.status()
            assert (status.state, status.path) == ("up", f"https:127.0.0.1:{port}")
            async with running.switch.open_port("bot") as bot:
                sent = broadcast(member)
                member.interface.feed(sent)
                with trio.fail_after(20):
                    assert await bot.receive_frame() == sent
        assert load(member.config.files, "pc1").https == https
        async with site.joined("pc1", None, path="auto") as member:  # its UDP port is nobody's
            assert (await member.status()).path == f"https:127.0.0.1:{port}"
        profile = load(member.config.files, "pc1")
        with pytest.raises(TimedOut):
            await leave(profile)
        await leave(profile, over_https(proxies.read(), lambda: profile.server_key))
        assert running.registry.named("pc1") is None


def test_a_proxy_of_the_options_comes_before_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s%20t@other.example:81")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    secret = tmp_path / "secret"
    secret.write_text("pc1:word\n")
    secret.chmod(0o600)
    found = proxies.read(HostPort("p.example", 80), secret)
    proxy = found("https://switch.example.org")
    assert (proxy.host, proxy.port, proxy.credentials) == ("p.example", 80, "pc1:word")
    found = proxies.read()
    proxy = found("https://switch.example.org")
    assert (proxy.host, proxy.port, proxy.credentials) == ("other.example", 81, "user:s t")
    assert found("https://inside.example") is None


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"https_proxy": "a:1", "HTTPS_PROXY": "b:1"}, "https://s.example", "a"),
        ({"ALL_PROXY": "http://c:1"}, "https://s.example", "c"),
        ({"HTTPS_PROXY": "b:1", "all_proxy": "c:1"}, "https://s.example", "b"),
        ({"HTTP_PROXY": "b:1"}, "https://s.example", None),
        ({"HTTPS_PROXY": ""}, "https://s.example", None),
        ({"HTTPS_PROXY": "b:1", "no_proxy": ".example"}, "https://s.example:8443", None),
        ({"HTTPS_PROXY": "b:1", "NO_PROXY": "*"}, "https://s.example", None),
        ({"HTTPS_PROXY": "b:1", "NO_PROXY": "2001:db8::1"}, "https://[2001:db8::1]", None),
        ({"HTTPS_PROXY": "b:1", "NO_PROXY": "[2001:db8::1]"}, "https://[2001:db8::1]", None),
        ({"HTTPS_PROXY": "b:1", "NO_PROXY": "ample"}, "https://s.example", "b"),
    ],
)
def test_the_environment_is_that_of_curl(monkeypatch, environment, url, proxy):
    only_environment(monkeypatch, environment)
    found = proxies.read()(url)
    assert (found and found.host) == proxy


def only_environment(monkeypatch, environment):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "text",
    [
        "socks5h://127.0.0.1:1080",
        "https://proxy.example",
        "http://[::1:3128",
        "http://user:se/cret@proxy.example:1",
        "http://user:se#cret@proxy.example:1",
        "http://:3128",
        "http://proxy.example:99999",
    ],
)
async def test_an_environment_of_no_use_costs_who_needs_it_alone(monkeypatch, text):
    """It is for other programs, too; and no part of a password is told."""
    only_environment(monkeypatch, {"HTTPS_PROXY": text})
    proxy_for = proxies.read()
    with pytest.raises(ConfigError, match="give --proxy") as caught:
        proxy_for("https://s.example")
    assert not any(part in str(caught.value) for part in ("se/", "cret", "127.0.0.1"))
    run = over_https(proxy_for, lambda: PublicKey(bytes(32)))
    with pytest.raises(NotReachable, match="give --proxy"):
        await run(None, "https://s.example", task_status=trio.TASK_STATUS_IGNORED)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("pc1:word\n", 0o644, "chmod 600"),
        ("word\n", 0o600, "USER:PASSWORD"),
        ("pc1:word\nanother\n", 0o600, "USER:PASSWORD"),
        ("p:" + "x" * 2000, 0o600, "USER:PASSWORD"),
    ],
)
def test_credentials_that_cannot_be_used(tmp_path, text, mode, reason):
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=reason) as caught:
        proxies.read(HostPort("p.example", 80), path)
    assert "word" not in str(caught.value)
