"""Real TLS and WebSockets on 127.0.0.1: joined by invite alone, over HTTPS, and so shown."""

import pytest
import trio
from attrs import evolve

from tests.vswitch.joining.test_member_survives import broadcast, free_port
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, TimedOut
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
        await leave(profile, over_https(proxies.read()))
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
