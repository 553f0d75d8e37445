"""The ways to have a host ask for one domain: files in a directory, programs that are scripts."""

import os

import pytest
from attrs import evolve

from vswitch.errors import VswitchError
from vswitch.joining.resolvers import (
    NOBODY,
    HostsFile,
    Openresolv,
    Place,
    Resolved,
    Wanted,
    block_of,
    choose_way,
    name_servers,
    search_domains,
    taken_names,
    uses_resolved,
    without_block,
)

WANTED = Wanted("vsw0", ("10.77.0.1",), "lan", True, ("0.77.10.in-addr.arpa",))
NAMES = {"pc1": "10.77.0.2", "pc2": "10.77.0.3"}
FILES = (
    b"127.0.0.1 localhost\n",
    b"127.0.0.1 localhost",  # without an end
    b"",
    b"# caf\xe9\r\n10.1.1.1 a\r\n\r\n",
    b"127.0.0.1 localhost\n\n# vswitch pc9 begin: other\n10.1.1.1 x.lan\n# vswitch pc9 end\n",
)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts scripts in front of all programs; what they were called with, line by line."""
    directory, calls = tmp_path / "bin", tmp_path / "calls"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    calls.write_text("")

    def put(name, body="exit 0"):
        path = directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{body}\n')
        path.chmod(0o755)

    put.calls = lambda: calls.read_text().splitlines()
    return put


@pytest.mark.parametrize("before", FILES)
def test_the_block_goes_to_the_byte(tmp_path, before):
    path = tmp_path / "hosts"
    path.write_bytes(before)
    path.chmod(0o644)
    way = HostsFile(path, "pc1")
    way.put(WANTED, NAMES, "")
    once = path.read_bytes()
    assert once.startswith(before)
    assert b"10.77.0.3 pc2.lan pc2\n" in once
    way.put(WANTED, NAMES, "")
    assert path.read_bytes() == once
    way.put(WANTED, {"pc3": "10.77.0.4"}, "")
    assert b"pc2" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644
    # What others have added behind it stays, too.
    path.write_bytes(path.read_bytes() + b"192.0.2.1 later\n")
    way.undo("vsw0")
    assert path.read_bytes() == before + b"192.0.2.1 later\n"
    way.undo("vsw0")
    assert [each.name for each in tmp_path.iterdir()] == ["hosts"]


def test_two_members_have_two_blocks(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    one, two = HostsFile(path, "pc"), HostsFile(path, "pc1")
    one.put(WANTED, {"a": "10.77.0.2"}, "")
    two.put(evolve(WANTED, dev="vsw1", domain="lab"), {"b": "10.77.0.3"}, "")
    one.undo("vsw0")
    assert "a.lan" not in path.read_text()
    two.undo("vsw0")
    assert path.read_text() == "127.0.0.1 localhost\n"


def test_two_lans_with_one_domain_are_not_mixed(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    one, two = HostsFile(path, "pc1"), HostsFile(path, "pc1-lab")
    one.put(WANTED, {"nas": "10.77.0.2"}, "")
    before = path.read_bytes()
    other = evolve(WANTED, dev="vsw1")
    for _ in range(2):
        with pytest.raises(VswitchError, match=r"lan is already that of the LAN at vsw0, .*pc1\b"):
            two.put(other, {"nas": "10.88.0.2"}, "")
        two.undo("vsw1")
        assert path.read_bytes() == before
    one.put(WANTED, {"nas": "10.77.0.3"}, "")
    two.put(evolve(other, domain="lab"), {"nas": "10.88.0.2"}, "")
    assert "10.88.0.2 nas.lab\n" in path.read_text()  # who came first has the bare name
    assert "10.77.0.3 nas.lan nas\n" in path.read_text()
    two.undo("vsw1")
    one.undo("vsw0")
    two.put(other, {"nas": "10.88.0.2"}, "")
    assert "10.88.0.2 nas.lan nas\n" in path.read_text()


def test_a_name_that_is_somebodys_is_the_lans_in_its_domain_alone():
    taken = taken_names("10.1.1.1 Intranet i # x\n# 10.1.1.2 comment\n") | {"laptop"}
    names = dict.fromkeys(("intranet", "laptop", "localhost", "wpad", "comment"), "10.77.0.9")
    block = block_of("pc1", WANTED, names, taken)
    for name in ("intranet", "laptop", "localhost", "wpad"):
        assert f"10.77.0.9 {name}.lan\n" in block
    assert "10.77.0.9 comment.lan comment\n" in block
    bare = block_of("pc1", Wanted("vsw0", (), "lan", False), names, set())
    assert "10.77.0.9 comment.lan\n" in bare
    assert without_block(f"x{block}y", "pc1") == "xy"


def test_a_hosts_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(VswitchError, match="hosts: No such file"):
        HostsFile(tmp_path / "hosts", "pc1").put(WANTED, NAMES, "")
    HostsFile(tmp_path / "hosts", "pc1").undo("vsw0")


def test_what_the_files_of_a_host_say():
    assert search_domains("domain a.example\nsearch Home.Arpa. lan .\n") == ("home.arpa", "lan")
    assert search_domains("nameserver 1.1.1.1\n") == ()
    assert name_servers("# x\nnameserver 127.0.0.53\nnameserver\n") == ("127.0.0.53",)
    assert uses_resolved("nameserver 127.0.0.53\n", "")
    assert uses_resolved("nameserver 9.9.9.9\n", "hosts: files resolve [!UNAVAIL=return] dns\n")
    assert not uses_resolved("nameserver 9.9.9.9\n", "hosts: files dns # resolve\n")


def test_the_way_of_a_host(tmp_path, programs):
    place = Place(tmp_path / "etc", tmp_path / "run")
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    resolv = tmp_path / "etc/resolv.conf"
    resolv.write_text("nameserver 9.9.9.9\n")
    programs("resolvectl")
    programs("resolvconf", "echo openresolv 3.13")
    assert isinstance(choose_way(place, "pc1"), HostsFile)
    resolv.write_text("nameserver 127.0.0.53\n")
    assert isinstance(choose_way(place, "pc1"), Resolved)
    (tmp_path / "run/systemd/resolve").rmdir()  # it does not run
    assert isinstance(choose_way(place, "pc1"), Openresolv)
    programs("resolvconf", "echo Debian resolvconf")  # which knows no domains
    assert isinstance(choose_way(place, "pc1"), HostsFile)


def test_resolved_is_never_asked_for_more_than_the_domain(programs):
    programs("resolvectl")
    Resolved().set(WANTED)
    assert programs.calls() == [
        "resolvectl default-route vsw0 no",
        "resolvectl dnssec vsw0 no",
        "resolvectl dnsovertls vsw0 no",
        "resolvectl domain vsw0 lan ~0.77.10.in-addr.arpa",
        "resolvectl dns vsw0 10.77.0.1",
    ]
    Resolved().undo("vsw0")
    assert programs.calls()[-1] == "resolvectl revert vsw0"


def test_without_bare_names_the_domain_is_no_search_domain(programs):
    programs("resolvectl")
    Resolved().set(Wanted("vsw0", ("10.77.0.1",), "lan", False))
    assert "resolvectl domain vsw0 ~lan" in programs.calls()


def test_a_resolved_that_refuses_is_left_as_it_was(programs):
    programs("resolvectl", '[ "$1" != domain ] || { echo no such link >&2; exit 1; }')
    with pytest.raises(VswitchError, match=r"resolvectl domain vsw0 .*: no such link"):
        Resolved().set(WANTED)
    assert programs.calls()[-1] == "resolvectl revert vsw0"
    assert not any(call.startswith("resolvectl dns vsw0") for call in programs.calls())


def test_openresolv(programs, tmp_path):
    programs("resolvconf", f"cat > {tmp_path}/text")
    Openresolv().set(WANTED)
    assert programs.calls() == ["resolvconf -p -a vsw0.vswitch"]
    assert (tmp_path / "text").read_text() == "search lan\nnameserver 10.77.0.1\n"
    Openresolv().undo("vsw0")
    assert programs.calls()[-1] == "resolvconf -f -d vsw0.vswitch"


def test_while_resolveds_server_is_away_the_link_has_one_that_refuses(programs):
    programs("resolvectl")
    Resolved().answers(WANTED, False)
    Resolved().answers(WANTED, True)
    assert programs.calls() == [f"resolvectl dns vsw0 {NOBODY}", "resolvectl dns vsw0 10.77.0.1"]


def test_while_openresolvs_server_is_away_the_kernel_refuses(programs, monkeypatch):
    programs("resolvconf")
    refused = set()
    for verb, do in (("refuse", refused.update), ("allow", refused.difference_update)):
        monkeypatch.setattr(f"vswitch.joining.resolvers.{verb}_questions", do)
    way = Openresolv()
    for end in (
        lambda: way.answers(WANTED, True),
        lambda: way.undo("vsw0", WANTED.servers),
    ):
        way.answers(WANTED, False)
        assert refused == {"10.77.0.1"}
        end()
        assert refused == set()
    assert programs.calls() == ["resolvconf -f -d vsw0.vswitch"]  # nothing else was changed


LINKS = """\
Global:
Link 2 (eth0): home
Link 3 (vsw0): lan ~0.77.10.in-addr.arpa
Link 14 (vsw1): ~0.78.10.in-addr.arpa ~Lan
Link 15 (vsw2):
"""
FILES_OF_LINKS = """\
# resolv.conf from eth0
domain home
nameserver 192.0.2.53

# resolv.conf from vsw0.vswitch
search lan
nameserver 10.77.0.1

# resolv.conf from vsw1.vswitch
domain lan
nameserver 10.78.0.1
"""


@pytest.mark.parametrize(
    ("way", "program", "said"),
    [(Resolved(), "resolvectl", LINKS), (Openresolv(), "resolvconf", FILES_OF_LINKS)],
)
def test_which_other_link_has_the_domain(programs, way, program, said):
    programs(program, f"cat <<'END'\n{said}END")
    assert way.taken_by(WANTED) == "vsw1"
    assert way.taken_by(evolve(WANTED, dev="vsw1")) == "vsw0"
    assert way.taken_by(evolve(WANTED, domain="home")) == "eth0"
    assert way.taken_by(evolve(WANTED, domain="an")) is None
    programs(program, "exit 1")
    assert way.taken_by(WANTED) is None
