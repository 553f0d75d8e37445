"""What the Debian package puts elsewhere than a wheel is found there."""

import re
from pathlib import Path

import pytest

from vswitch.cli import common, main
from vswitch.cli.completion import FILES
from vswitch.errors import ExitCode

RULES = (Path(__file__).resolve().parents[2] / "packaging/debian/rules").read_text()
MOVES = re.compile(r"^\tmv (.*) \$\(STAGE\)(/\S+)$", re.MULTILINE)


def moved(name):
    """Where the package has a file of the wheel."""
    for sources, target in MOVES.findall(RULES):
        for source in sources.split():
            at = source.removeprefix("$(VENV)/")
            if name.startswith(f"{at}/"):
                renamed = not target.endswith(("/lib", "/share"))
                return target + name.removeprefix(at if renamed else str(Path(at).parent))
    raise AssertionError(f"{name} stays behind")


@pytest.mark.parametrize("shell", FILES)
@pytest.mark.parametrize("place", [lambda name: f"/usr/{name}", moved], ids=["wheel", "package"])
def test_completions_are_printed_from_where_they_are(shell, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "DISTRIBUTION", str(tmp_path / "usr"))
    assert main(["completion", shell]) == ExitCode.NOT_FOUND
    file = tmp_path / place(FILES[shell]).lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(f"for {shell}\n")
    assert main(["completion", shell]) == ExitCode.OK
    assert capsys.readouterr().out == f"for {shell}\n"


def test_zsh_of_debian_looks_there():
    assert moved(FILES["zsh"]) == "/usr/share/zsh/vendor-completions/_vswitch"
