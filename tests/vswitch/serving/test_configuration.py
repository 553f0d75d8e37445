"""A start with a wrong file of what is kept: the message names it, the line, and what to do."""

import pytest

from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError, ExitCode
from vswitch.serving.configuration import Configuration
from vswitch.state import StateDir

FILE = """
[serve]
public = "switch.example.org"
[network.lab]
mtu = 1400
[[publish]]
listen = "tcp://:8080"
to = "pc1:80"
"""
MEND = "; it was changed live and kept: mend that line, or take it out"
MOVE = "; what was changed live is kept there: mend it, or move the file away"


@pytest.fixture
def files(tmp_path):
    files = StateDir(tmp_path / "s")
    files.ensure()
    (tmp_path / "vswitch.toml").write_text(FILE)
    return files


def read(files):
    path = files.path.parent / "vswitch.toml"
    config = ServeConfig(config=path, state=files.path)
    return Configuration.read(config, {"config": path, "state": files.path})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nserve = 3", ":2: serve: must be a table"),
        ("network.lab = 3", ":1: network.lab: must be a table"),
        ("[network]\nlab = 3", ":2: network.lab: must be a table"),
        ("publish = 3", ":1: publish: must be a table"),
        ('[serve]\nbridge = "br0"', ":2: serve.bridge: is for the local port: give"),
        ('[https]\nkey = "/x"\nlisten = ":443"', ":2: https.key: give https.certificate"),
        ('[https]\nprefix = "/x"', ":2: https.prefix: is for an HTTPS side: give https.listen"),
        ('[dhcp]\nrange = "192.0.2.1-192.0.2.9"', ":2: dhcp.range: 192.0.2.1 cannot be given"),
        (
            '[network.lab.dhcp]\nreservations = { pc1 = "192.0.2.1" }',
            ":2: network.lab.dhcp.reservations: 192.0.2.1 cannot be given",
        ),
        (
            '[network.lab.adverts]\nvalid = "1h"\npreferred = "2h"',
            ":1: network.lab.adverts: preferred must not be longer than valid",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_line_and_what_to_do(files, text, said):
    files.saved.write_text(f"{text}\n")
    with pytest.raises(ConfigError) as caught:
        read(files)
    assert caught.value.exit_code == ExitCode.USAGE
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{files.saved}{said}")
    assert line.endswith(MEND)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\nnonsense\n", "not TOML: Expected '=' after a key in a key/value pair (at line 2"),
        (b"\n\xff\n", "not UTF-8 (at line 2)"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_what_cannot_be_read_can_be_moved_away(files, data, said):
    if data is None:
        files.saved.mkdir()
    else:
        files.saved.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read(files)
    assert str(caught.value).startswith(f"{files.saved}: {said}")
    assert str(caught.value).endswith(MOVE)


def test_a_value_of_the_file_above_what_is_kept_is_of_the_file(files):
    files.saved.write_text("[port.pc1]\nisolated = true\n")
    path = files.path.parent / "vswitch.toml"
    path.write_text("port = 3\n")
    with pytest.raises(ConfigError, match=rf"^{path}:1: port: must be a table[^;]*$"):
        read(files)
