"""Units and the files of the switch, as a systemctl and a directory of this test have them."""

import os

import pytest

from vswitch.doctor import examine, units
from vswitch.doctor.findings import judge
from vswitch.state import StateDir

RUNS = """Id=vswitch-serve.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
ExecMainCode=0
ExecMainStatus=0
NRestarts=0
ExecStart={{ path=/usr/bin/vswitch ; argv[]=/usr/bin/vswitch serve --config {config} \
--state {state} ; ignore_errors=no ; start_time=[n/a] ; pid=7 ; code=(null) ; status=0/0 }}
"""
MEMBER = RUNS.replace("vswitch-serve", "vswitch-join@pc1").partition("ExecStart")[0]
ABSENT = "Id=vswitch-serve.service\nLoadState=not-found\nActiveState=inactive\n"


def changed(text, **properties):
    lines = (line.partition("=") for line in text.splitlines())
    return "".join(f"{key}={properties.get(key, value)}\n" for key, _, value in lines)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with systemd, a configuration file and a state directory; what systemctl says."""
    files = StateDir(tmp_path / "s")
    files.ensure()
    config = tmp_path / "vswitch.toml"
    config.write_text('[serve]\npublic = "switch.example.org"\n')
    (tmp_path / "tools").mkdir()
    said = tmp_path / "said"
    said.write_text(RUNS.format(config=config, state=files.path))
    systemctl = tmp_path / "tools" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$1" = show ] && cat {said}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    monkeypatch.setattr(units, "BOOTED", tmp_path)
    monkeypatch.setattr(units, "CONFIG", tmp_path / "none.toml")
    return files, config, said


async def found(files):
    facts = await examine.examine(files, None)
    ids = ("unit-failed", "config-wrong", "saved-wrong", "probe-failed")
    return [(each.id, each.seen) for each in judge(facts) if each.id in ids]


async def test_nothing_is_found_where_units_and_files_are_right(host):
    files, _, said = host
    files.saved.write_text("[port.pc1]\nisolated = true\n")
    said.write_text(f"{said.read_text()}\n{MEMBER}")
    assert await found(files) == []
    said.write_text(ABSENT)
    assert await found(files) == []


@pytest.mark.parametrize(
    ("properties", "seen"),
    [
        (
            {"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": 1}
            | {"ExecMainStatus": 2},
            "has ended with exit code 2",
        ),
        (
            {"ActiveState": "failed", "Result": "watchdog", "ExecMainCode": 3, "ExecMainStatus": 6},
            "was ended by signal 6 (watchdog)",
        ),
        ({"ActiveState": "failed", "Result": "resources"}, "has failed (resources)"),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}
            | {"ExecMainCode": 1, "ExecMainStatus": 1},
            "has ended with exit code 1, and is started again",
        ),
        (
            {"ActiveState": "activating", "SubState": "start", "NRestarts": 3},
            "is started again, after 3 failures",
        ),
    ],
)
async def test_a_unit_that_has_failed_is_told_with_how_and_where_its_log_is(host, properties, seen):
    files, _, said = host
    said.write_text(f"{said.read_text()}\n{changed(MEMBER, **properties)}")
    unit = "vswitch-join@pc1.service"
    assert await found(files) == [
        ("unit-failed", f"{unit}: {seen}; `journalctl -u {unit} -n 20` has its last lines")
    ]
    said.write_text(f"{ABSENT}\n{changed(MEMBER, ActiveState='activating', SubState='start')}")
    assert await found(files) == []


async def test_the_file_of_the_unit_is_looked_at_and_what_is_kept_over_it(host):
    files, config, said = host
    files.saved.write_text("[network.lab]\nmtu = 3\n")
    (kept,) = await found(files)
    assert kept[0] == "saved-wrong"
    assert kept[1].startswith(f"{files.saved}:2: network.lab.mtu = 3: ")
    config.write_text("[serve]\nmtuu = 3\nsubnett = 3\n")  # nobody knows what lies over it
    (wrong,) = await found(files)
    assert wrong[0] == "config-wrong"
    assert wrong[1].startswith(f"{config}:2: serve: unknown option mtuu")
    said.write_text(said.read_text().replace("--config ", "--config="))
    files.saved.write_text("nonsense\n")
    assert [id for id, _ in await found(files)] == ["config-wrong", "saved-wrong"]
    said.write_text(RUNS.format(config=config, state="/of/another"))
    assert [id for id, _ in await found(files)] == ["config-wrong", "saved-wrong"]


async def test_without_systemd_the_file_is_looked_for_where_units_have_it(host, monkeypatch):
    files, config, said = host
    said.write_text(changed(RUNS.format(config=config, state="x"), ActiveState="failed"))
    monkeypatch.setattr(units, "BOOTED", files.path / "none")
    config.write_text("[serve]\nmtuu = 3\n")
    assert await found(files) == []
    monkeypatch.setattr(units, "CONFIG", config)
    assert [id for id, _ in await found(files)] == ["config-wrong"]


async def test_what_is_kept_over_the_file_of_another_switch_need_not_fit_this_one(host):
    files, config, said = host
    said.write_text(RUNS.format(config=config, state="/of/another"))
    files.saved.write_text('[serve]\nbridge = "br0"\n')  # its file has the local port
    assert await found(files) == []


async def test_a_systemctl_that_fails_or_hangs_costs_no_other(host, monkeypatch, tmp_path):
    files, _, _ = host
    systemctl = tmp_path / "tools" / "systemctl"
    systemctl.write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    ((id, seen),) = await found(files)
    assert id == "probe-failed"
    assert seen.startswith("units: ")
    assert seen.endswith(": no bus")
    systemctl.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("vswitch.doctor.host.PATIENCE", 0.2)
    ((id, seen),) = await found(files)
    assert "no answer within 0.2 s" in seen
