"""The configuration over the API: it goes round, is replaced whole or not, and never lost."""

import json

import pytest

from tests.vswitch.api.test_api import an_api
from vswitch.api.roles import Role

FILE = "[names]\nenabled = false\n[port.pc1]\nisolated = true\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text(FILE)
    return path


async def test_it_goes_round_and_a_lost_update_is_refused(site, file):
    async with an_api(site, config=file) as (client, running):
        admin = client(Role.ADMIN)
        status, tables, headers = await admin("GET", "/v1/config")
        assert (status, tables["port"]) == (200, {"pc1": {"isolated": True}})
        tag = headers["ETag"]
        assert (await client(Role.OPERATE)("PUT", "/v1/config", tables))[0] == 403
        status, said, _ = await admin("PUT", "/v1/config", tables, **{"If-Match": tag})
        assert (status, said["changes"]) == (200, [])
        assert (await admin("GET", "/v1/config"))[2]["ETag"] == tag
        changed = {**tables, "switch": {"guard": True}}
        status, said, _ = await admin("PUT", "/v1/config", changed, **{"If-Match": tag})
        assert [each["key"] for each in said["changes"]] == ["switch.guard"]
        assert running.managed.settings.switch.guard
        other = {**tables, "switch": {"guard": False}}
        status, said, _ = await admin("PUT", "/v1/config", other, **{"If-Match": tag})
        assert (status, running.managed.settings.switch.guard) == (412, True)
        for broken in ({"switch": {"guard": 7}}, {"nonsense": {}}, {"join": {"name": "x"}}):
            status, said, _ = await admin("PUT", "/v1/config", broken)
            assert (status, said["code"]) == (400, 2)
            assert "serve.toml" not in said["error"]  # which is right
            assert (await admin("GET", "/v1/config"))[1] == changed
        kept = json.loads(json.dumps(changed))
    async with site.serving(config=file) as running:
        assert running.reloader.whole() == kept


async def test_what_no_file_could_say_is_refused(site, file):
    deep = 1
    for _ in range(200):
        deep = {"a": deep}
    async with an_api(site, config=file) as (client, running):
        admin = client(Role.ADMIN)
        for wrong, why in (
            ({"adverts": {"dns": None}}, "adverts.dns: null is no value"),
            ({"rules": {"groups": {"a": [None]}}}, "null is no value"),
            ({"network": {"lab": {"switch": {"guard": None}}}}, "network.lab.switch.guard: null"),
            ({"publish": {"a": {"b": 1}}}, "publish: write [[publish]]"),
            ({"publish": [{"listen": "tcp://:1"}], "foreign": {"a": {}}}, "write [[foreign]]"),
            ({"dhcp": {"dns": 5}}, "dhcp.dns = 5: must be addresses"),
            ({"dhcp": {"\0\n\u202e": 5}}, "unknown option"),
            ({"rules": {"default": ["x" * 9000]}}, "rules.default"),
            (deep, "nested too deeply"),
            ({"port": {"pc1": deep}}, "nested too deeply"),
        ):
            status, said, _ = await admin("PUT", "/v1/config", wrong)
            assert (status, said["code"]) == (400, 2), said
            assert why in said["error"]
            lines = said["error"].split("\n")
            assert all(line.isprintable() and len(line) <= 1000 for line in lines)
        rule = {"listen": "tcp://127.0.0.1:0", "to": None}
        assert (await admin("POST", "/v1/published?save=true", rule))[0] == 400
        assert (await admin("PATCH", "/v1/ports/pc2?save=true", {"mirror": [None]}))[0] == 400
        assert not running.reloader.configuration.began.files.saved.exists()


async def test_a_new_name_has_settings_that_are_kept_as_those_of_the_old_one(site, file):
    async with an_api(site, config=file) as (client, running):
        admin = client(Role.ADMIN)
        running.networks["default"].registry.enrol_local(bytes(32), "pc1", 0.0)
        await admin("PATCH", "/v1/ports/pc1", {"mac_limit": 7})
        await admin("PATCH", "/v1/ports/pc1?save=true", {"storm_unknown": 9})
        await admin("PATCH", "/v1/ports/office?save=true", {"rate_in": "9M"})
        assert (await admin("PATCH", "/v1/members/pc1", {"name": "office"}))[0] == 200
        copied = (await admin("POST", "/v1/ports/office/copy", {"to": "attic"}))[1]
        names = ["isolated", "mac_limit", "rate_in", "storm_unknown"]
        assert copied == {"settings": names, "live": ["mac_limit"]}
        assert (await admin("POST", "/v1/ports/office/copy", {"to": "attic"}))[1]["settings"] == []
        for _ in range(2):
            said = (await admin("GET", "/v1/config/diff"))[1]
            assert [each["key"] for each in said["unsaved"]] == [
                f"port.{name}.mac_limit" for name in ("attic", "office", "pc1")
            ]
            settings = running.managed.settings
            assert settings.of_port("office").isolated
            assert settings.of_port("attic").rate_in == 9e6
            await admin("POST", "/v1/config/reload")


async def test_what_is_changed_live_is_kept_where_that_is_said(site, file):
    async with an_api(site, config=file) as (client, running):
        admin = client(Role.ADMIN)
        await admin("PATCH", "/v1/ports/pc2", {"isolated": True})
        await admin("PATCH", "/v1/ports/pc3?save=true", {"isolated": True})
        await admin("PATCH", "/v1/switch?save=true", {"guard": True})
        rules = {"table": {"list": ["deny pc1 -> pc2"]}}
        assert (await admin("PUT", "/v1/rules?save=true", rules))[0] == 200
        said = (await admin("GET", "/v1/config/diff"))[1]
        assert [each["key"] for each in said["unsaved"]] == ["port.pc2.isolated"]
        assert [each["key"] for each in said["saved"]] == [
            "port.pc3.isolated",
            "rules",
            "switch.guard",
        ]
        file.write_text(FILE + "[port.pc4]\nisolated = true\n")
        status, said, _ = await admin("POST", "/v1/config/reload?revert=true")
        assert (status, [each["key"] for each in said["changes"]]) == (
            200,
            ["port.pc2.isolated", "port.pc4.isolated"],
        )
        assert set(running.managed.settings.ports) == {"pc1", "pc3", "pc4"}
        sources = (await admin("GET", "/v1/config/state"))[1]["settings"]
        assert {each["key"][0]: each["source"] for each in sources} == {
            "names": "file",
            "port": "saved",
            "rules": "saved",
            "switch": "saved",
        }


async def test_what_cannot_be_kept_is_in_force_and_known(site):
    async with an_api(site) as (client, _):
        admin = client(Role.ADMIN)
        site.files.saved.mkdir()
        status, said, _ = await admin("PATCH", "/v1/ports/pc1?save=true", {"isolated": True})
        assert (status, "in force, but not kept" in said["error"]) == (409, True)
        site.files.saved.rmdir()
        status, said, _ = await admin("GET", "/v1/config/diff")
        assert [each["key"] for each in said["unsaved"]] == ["port.pc1.isolated"]
        assert (await admin("POST", "/v1/config/save"))[1]["unsaved"] == []
        assert "isolated = true" in site.files.saved.read_text()
