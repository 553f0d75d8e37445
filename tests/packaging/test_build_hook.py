"""What is made for the package is complete, and works where it is read."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vswitch.cli import command_line
from vswitch.cli.common import SUMMARIES
from vswitch.errors import ExitCode
from vswitch.state import StateDir

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hook", ROOT / "packaging/build_hook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(hook):
    made = hook.generated(command_line(), "1.2.3")
    return {Path(name).name: text for name, text in made.items()}


def test_every_flag_is_in_every_file(hook, files):
    flags = {flag for _, each in hook.actions(command_line()) for flag in each.option_strings}
    assert {"--version", "--public", "--lane", "--via", "-w"} <= flags
    plain = shown(files["vswitch.1"])
    absent = [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", plain)]
    assert absent == ["--help"]  # a page is the help
    for shell in ("vswitch", "_vswitch"):
        assert not [flag for flag in flags if flag not in files[shell]]


def test_zsh_completes_each_of_several_operands(files):
    assert '  "*:names or numbers of ports:_vswitch_names ports"' in files["_vswitch"]
    assert '  "(*)' not in files["_vswitch"]


def test_manual_page_has_every_command_and_the_version(files):
    page = files["vswitch.1"]
    assert page.startswith(".TH VSWITCH")
    assert "vswitch 1.2.3" in page.splitlines()[0]
    assert not [name for name in SUMMARIES if f"vswitch {name}" not in shown(page)]


def shown(page: str) -> str:
    """Text of the manual page, without its markup."""
    return re.sub(r"\\f[BIR]|\\&|\\(?=-)", "", page)


def test_manual_page_says_what_holds_for_all_commands(files):
    sections = dict(
        re.findall(r"^\.SH ([A-Z ]+)\n(.*?)(?=^\.SH|\Z)", shown(files["vswitch.1"]), re.M | re.S)
    )
    last = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"]
    assert list(sections)[-len(last) :] == last
    codes = [str(code) for name, code in vars(ExitCode).items() if name.isupper()]
    assert re.findall(r"^\.B (\d+)\n", sections["EXIT STATUS"], re.M) == codes
    state = StateDir("/var/lib/vswitch")
    for path in (state.server_key, state.control_socket, state.profile("NAME"), state.tokens):
        assert f".B {path}\n" in sections["FILES"]
    assert ".B XDG_STATE_HOME, HOME\n" in sections["ENVIRONMENT"]
    lines = sections["EXAMPLES"].splitlines()
    assert not [
        name for name in SUMMARIES if not any(f"vswitch {name} " in f"{each} " for each in lines)
    ]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is missing")
def test_manual_page_is_set_without_a_warning(files):
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=files["vswitch.1"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["st"], {"status"}),
        (["serve", "--pub"], {"--public"}),
        (["capture", "--direction", "b"], {"both"}),
        (["serve", "--config", "pyproj"], {"pyproject.toml"}),
        (["join", "--lane", "d"], {"datagram"}),
        (["join", "--offload", "o"], {"on", "off"}),
    ],
)
def test_bash_completes(files, tmp_path, words, answers):
    script = tmp_path / "vswitch"
    script.write_text(files["vswitch"])
    asked = f"""source {script}
        COMP_WORDS=(vswitch {" ".join(words)}); COMP_CWORD={len(words)}
        _shtab_vswitch; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", asked], cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == answers, done.stderr


def test_readme_of_the_package_has_no_relative_links_and_all_words(hook):
    readme = (ROOT / "README.md").read_text()
    shown = hook.without_links(readme)
    targets = re.findall(r"\]\(([^)]*)\)", shown)
    assert all(target.startswith(("https:", "#")) for target in targets)
    assert "docs/operations.md" in shown
    assert len(shown) > 0.85 * len(readme)
    assert hook.without_links("[a](https://x.example) ![p](i.svg)\n[b](c.md#d)") == (
        "[a](https://x.example) b"
    )
