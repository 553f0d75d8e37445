"""`vswitch service` with a systemctl that writes down what it was asked."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from vswitch.cli import service
from vswitch.errors import ExitCode

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with systemd, seen by root, and what a wheel installs; its log of calls."""
    prefix, tools, log = tmp_path / "prefix", tmp_path / "tools", tmp_path / "log"
    for each in ("lib/systemd/system", "lib/sysusers.d", "lib/tmpfiles.d", "share/vswitch"):
        (prefix / each).mkdir(parents=True)
    for each in ("vswitch-serve.service", "vswitch-join@.service"):
        shutil.copy(EXAMPLES / each, prefix / "lib/systemd/system")
    for each in ("sysusers", "tmpfiles"):
        shutil.copy(EXAMPLES / f"vswitch.{each}.conf", prefix / f"lib/{each}.d/vswitch.conf")
    shutil.copy(EXAMPLES / "vswitch.toml", prefix / "share/vswitch")
    tools.mkdir()
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "chown", "setpriv"):
        (tools / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >>{log}\n'
            'case "$1" in is-enabled) echo enabled;; is-active) echo active;; esac\n'
        )
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("UNITS", "BOOTED"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(service, name, tmp_path / name)
    monkeypatch.setattr(service, "CONFIG", tmp_path / "vswitch.toml")
    return log


def calls(log):
    return log.read_text().splitlines() if log.exists() else []


def service_(run, action, *words):
    return run("service", action, *words)


def test_a_switch_is_installed_shown_and_removed(host, run, files):
    unit = service.UNITS / "vswitch-serve.service"
    code, _, err = service_(run, "install", "serve")
    assert code == ExitCode.NOT_FOUND
    assert re.search(r"`install -D -m 644 \S+ \S+`, and set `public`", err)
    service.CONFIG.touch()
    assert service_(run, "install", "serve")[0] == ExitCode.OK
    said = [line for line in calls(host) if line.startswith("systemctl")]
    assert said == ["systemctl daemon-reload", "systemctl enable --now vswitch-serve.service"]
    assert [line.split()[0] for line in calls(host)[:2]] == ["systemd-sysusers", "systemd-tmpfiles"]
    text = unit.read_text()
    assert text.startswith(service.MARK)
    assert f"--state {files.path}\n" in text
    assert f"ReadWritePaths={files.path}\n" in text
    assert "/opt/vswitch" not in text
    assert unit.stat().st_mode & 0o777 == 0o644
    assert service_(run, "install", "serve", "--no-now")[0] == ExitCode.OK  # ours: written again
    assert calls(host)[-1] == "systemctl enable vswitch-serve.service"
    code, out, _ = service_(run, "status", "serve")
    assert (code, out.strip()) == (ExitCode.OK, "vswitch-serve.service: enabled, active")
    assert service_(run, "remove", "serve")[0] == ExitCode.OK
    assert not unit.exists()
    assert "systemctl disable --now vswitch-serve.service" in calls(host)
    assert service_(run, "remove", "serve")[0] == ExitCode.NOT_FOUND


def test_a_member_has_joined_before_and_its_unit_stays_for_others(host, run, files):
    code, _, err = service_(run, "install", "join", "pc1")
    assert code == ExitCode.NOT_FOUND
    assert "run `vswitch join STRING --name pc1" in err
    files.profile("pc1").parent.mkdir(exist_ok=True)
    files.profile("pc1").write_text("private")
    assert service_(run, "install", "join", "pc1")[0] == ExitCode.OK
    unit = service.UNITS / "vswitch-join@.service"
    assert "private" not in unit.read_text()
    assert calls(host)[-1] == "systemctl enable --now vswitch-join@pc1.service"
    wants = service.UNITS / "multi-user.target.wants"
    wants.mkdir()
    (wants / "vswitch-join@pc2.service").symlink_to(unit)
    assert service_(run, "remove", "join", "pc1")[0] == ExitCode.OK
    assert unit.exists()
    (wants / "vswitch-join@pc2.service").unlink()
    assert service_(run, "remove", "join", "pc1")[0] == ExitCode.OK
    assert not unit.exists()


def test_a_member_on_the_host_of_the_switch_needs_no_string(host, run, files):
    assert service_(run, "install", "join", "pc1")[0] == ExitCode.NOT_FOUND
    files.registry.touch()
    assert service_(run, "install", "join", "pc1")[0] == ExitCode.OK


def test_the_usual_directory_is_handed_to_the_user_and_stays_in_the_unit(
    host, run, files, monkeypatch
):
    service.CONFIG.touch()
    monkeypatch.setattr(service, "STATE", files.path)
    assert service_(run, "install", "serve")[0] == ExitCode.OK
    assert f"chown -R -P vswitch:vswitch {files.path}" in calls(host)
    text = (service.UNITS / "vswitch-serve.service").read_text()
    assert "--state %S/vswitch\n" in text
    assert "StateDirectory=vswitch\n" in text


def test_of_a_link_the_directory_is_handed_over(host, run, files, tmp_path, monkeypatch):
    service.CONFIG.touch()
    (link := tmp_path / "link").symlink_to(files.path)
    monkeypatch.setattr(service, "STATE", link)
    assert service_(run, "install", "serve", "--state", str(link))[0] == ExitCode.OK
    assert f"chown -R -P vswitch:vswitch {files.path}" in calls(host)


def test_a_unit_of_somebody_else_stays(host, run):
    service.CONFIG.touch()
    unit = service.UNITS / "vswitch-serve.service"
    unit.write_text("[Unit]\n")
    for action in ("install", "remove"):
        assert service_(run, action, "serve")[0] == ExitCode.USAGE
    assert unit.read_text() == "[Unit]\n"
    assert not calls(host)
    assert service_(run, "install", "serve", "--force")[0] == ExitCode.OK
    assert unit.read_text().startswith(service.MARK)


def test_print_changes_nothing_and_needs_no_root(host, run, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    service.BOOTED.rmdir()
    code, out, _ = service_(run, "install", "join", "pc1", "--print")
    assert code == ExitCode.OK
    assert "/vswitch join --name %i --state " in out
    assert not calls(host)
    code, _, err = service_(run, "install", "serve")
    assert (code, "systemd does not run here" in err) == (ExitCode.FAILED, True)
    service.BOOTED.mkdir()
    assert service_(run, "install", "serve")[0] == ExitCode.PRIVILEGE


@pytest.mark.parametrize(
    "words", [("serve", "pc1"), ("join",), ("join", "../x"), ("serve", "--state", "/root/x")]
)
def test_wrong_words_are_refused(host, run, words):
    assert service_(run, "install", *words)[0] == ExitCode.USAGE
    assert not calls(host)


def test_what_systemctl_refuses_is_said(host, run):
    service.CONFIG.touch()
    tool = host.parent / "tools" / "systemctl"
    tool.write_text("#!/bin/sh\necho masked >&2\nexit 1\n")
    code, _, err = service_(run, "install", "serve")
    assert code == ExitCode.FAILED
    assert "`systemctl daemon-reload` failed: masked" in err


def test_a_file_that_the_user_of_the_service_cannot_use_is_refused_before_it_is_started(host, run):
    service.CONFIG.touch()
    tool = host.parent / "tools" / "setpriv"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = --reuid=vswitch ] && echo "vswitch: error: x.toml: no" >&2\nexit 2\n'
    )
    code, _, err = service_(run, "install", "serve")
    assert code == ExitCode.USAGE
    assert f"whose user is vswitch, cannot use {service.CONFIG}: x.toml: no" in err
    assert not (service.UNITS / "vswitch-serve.service").exists()
    assert not any("enable" in line for line in calls(host))
