"""The documents are complete and true where that can be checked against the program."""

import argparse
import ast
import importlib
import re
import shlex
import tomllib
from datetime import date
from itertools import chain
from pathlib import Path

import attrs
import pytest

from tests.fuzz.targets import TARGETS
from transport.stats import DROP_REASONS
from vswitch.cli.common import SUMMARIES
from vswitch.cli.help import Parser
from vswitch.config.options import (
    TABLES,
    DoctorConfig,
    ExecConfig,
    InviteConfig,
    JoinConfig,
    LeaveConfig,
    LookConfig,
    NetcheckConfig,
    OneNetworkConfig,
    ProxyConfig,
    RekeyConfig,
    ServeConfig,
    TokenConfig,
)
from vswitch.config.sources import flag_of, load, options_of, variable_of
from vswitch.devices.home_filter import STAYS_HOME
from vswitch.devices.tap import DROP_REASON
from vswitch.errors import ExitCode
from vswitch.features.settings import load_settings
from vswitch.foreign.client_limit import FAULT
from vswitch.foreign.datagrams import SEND_REASONS
from vswitch.foreign.kinds import KINDS, ForeignSettings
from vswitch.proxy.relay import End
from vswitch.proxy.sides import REASONS
from vswitch.services.adverts import AdvertSettings
from vswitch.services.publish_rules import PublishLimits, PublishRule
from vswitch.services.station import ServiceDrop
from vswitch.services.terms import DhcpSettings
from vswitch.serving.plan import plan_networks
from vswitch.switch.counters import Drop

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
PAGES = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9][0-9]-*.md"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OF_COMMAND = {
    "serve": ServeConfig,
    "join": JoinConfig,
    "exec": ExecConfig,
    "proxy": ProxyConfig,
    "invite": InviteConfig,
    "config": LookConfig,
    "status": LookConfig,
    "token": TokenConfig,
    "members": LookConfig,
    "member": LookConfig,
    "revoke": LookConfig,
    "rename": LookConfig,
    "disable": LookConfig,
    "enable": LookConfig,
    "leave": LeaveConfig,
    "ports": LookConfig,
    "top": OneNetworkConfig,
    "ping": LookConfig,
    "wait": LookConfig,
    "port": LookConfig,
    "switch": LookConfig,
    "capture": OneNetworkConfig,
    "counters": LookConfig,
    "events": LookConfig,
    "impair": LookConfig,
    "rules": LookConfig,
    "trace": LookConfig,
    "mac": LookConfig,
    "leases": LookConfig,
    "publish": LookConfig,
    "unpublish": LookConfig,
    "rekey": RekeyConfig,
    "doctor": DoctorConfig,
    "netcheck": NetcheckConfig,
}
LEVELS = ("debug", "info", "warning", "error", "exception", "log")
UNITS = sorted((ROOT / "examples").glob("*.service"))


def section(title: str) -> str:
    """The text of a second-level section of operations.md."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", OPERATIONS, re.DOTALL | re.M)
    assert found is not None, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for line in lines
        if not line.startswith("|---")
    ]
    heads = {index - 1 for index, line in enumerate(lines) if line.startswith("|---")}
    kept = [index for index, line in enumerate(lines) if not line.startswith("|---")]
    return [row for index, row in zip(kept, cells, strict=True) if index not in heads]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def title_of(page: Path) -> str:
    """What a page is called in the list of tests."""
    return str(page.relative_to(ROOT))


def parser_of(command: str) -> argparse.ArgumentParser:
    parsers = argparse.ArgumentParser().add_subparsers(parser_class=Parser)
    importlib.import_module(f"vswitch.cli.{command}").add_parser(parsers)
    return parsers.choices[command]


def flags_of(command: str) -> set[str]:
    return {flag for action in parser_of(command)._actions for flag in action.option_strings}


def option_row(command: str, name: str) -> list[str]:
    found = [
        row
        for row in rows(section("Options"))
        if code(row[0])[0].split()[0] == flag_of(name) and command in row[1].split(", ")
    ]
    assert len(found) == 1, f"{flag_of(name)} of {command}: {len(found)} rows in operations.md"
    return found[0]


EVERY_OPTION = [(command, name) for command, cls in OF_COMMAND.items() for name in options_of(cls)]


@pytest.mark.parametrize(("command", "name"), EVERY_OPTION)
def test_option_is_in_the_table(command, name):
    cls = OF_COMMAND[command]
    entry, field = options_of(cls)[name], attrs.fields_dict(cls)[name]
    flag, _, variable, key, default, meaning = option_row(command, name)
    metavar = "" if entry.metavar is None else " " + entry.metavar
    assert code(flag) == [f"{flag_of(name)}{metavar}".replace("|", r"\|")]
    assert code(variable) == [variable_of(name)]
    has_table = command in ("serve", "join", "exec", "proxy")
    assert code(key) == ([entry.at or name] if has_table and entry.in_file else [])
    assert meaning
    if field.default is attrs.NOTHING:
        assert default == "required"
    elif isinstance(field.default, attrs.Factory):
        assert "#files" in default
    elif field.default is None or default == "":
        assert not field.default
    else:
        (text,) = code(default)
        fixed = {} if name == "name" or not issubclass(cls, JoinConfig) else {"name": "pc1"}
        assert getattr(load(cls, {name: text}, {}, **fixed), name) == field.default


def test_table_has_no_option_too_many():
    known = {(command, flag_of(name)) for command, name in EVERY_OPTION}
    listed = {
        (command, code(row[0])[0].split()[0])
        for row in rows(section("Options"))
        for command in row[1].split(", ")
    }
    assert listed == known


def test_commands_without_options_are_named():
    (said,) = re.findall(r"^(`vswitch .*?) have flags alone", section("Options"), re.DOTALL | re.M)
    assert {name.removeprefix("vswitch ") for name in code(said)} == set(SUMMARIES) - set(
        OF_COMMAND
    )


@pytest.mark.parametrize("settings", [DhcpSettings, AdvertSettings])
def test_every_key_of_a_service_that_gives_addresses_is_explained(settings):
    told = section("Addresses for machines that are no members")
    explained = {key for row in rows(told) for key in code(row[0])}
    assert options_of(settings).keys() <= explained


def blocks(page: Path, languages: str) -> list[str]:
    return re.findall(rf"^```(?:{languages})\n(.*?)^```$", page.read_text(), re.DOTALL | re.M)


FILES = [(page, block) for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize(
    ("page", "block"), FILES, ids=[f"{title_of(page)}-{i}" for i, (page, _) in enumerate(FILES)]
)
def test_configuration_in_documents_is_right(page, block, tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text(block)
    plan_networks(load(ServeConfig, {"config": str(path)}, {}, table="serve", tables=TABLES))


def settings_in(page: Path) -> list[tuple[str, str]]:
    """(table, `key = value`) of each `vswitch port set NAME KEY=VALUE` and `vswitch switch set`."""
    inline = code(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M))
    text = "\n".join([*blocks(page, "sh|console"), *inline])
    found = re.findall(r"vswitch (?:(port) set \S+|(switch) set)((?: [\w-]+=[^\s`#]+)+)", text)
    return [
        ("port.pc1" if port else "switch", change)
        for port, _, changes in found
        for change in changes.split()
        if change != "KEY=VALUE"
    ]


@pytest.mark.parametrize(
    ("table", "change"), sorted({change for page in PAGES for change in settings_in(page)})
)
def test_settings_that_documents_set_exist(table, change, tmp_path):
    key, _, value = change.partition("=")
    path = tmp_path / "vswitch.toml"
    path.write_text(f'[{table}]\n{key.replace("-", "_")} = "{value}"\n')
    load_settings(path)


def test_troubleshooting_is_about_what_the_program_says():
    """What stands in bold is a message, but for what differs: a host, an interface, dots."""
    said = "".join(path.read_text() for path in (ROOT / "vswitch").rglob("*.py"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\*\*`([^`]+)`", page, re.M)
    assert len(messages) > 3
    for message in messages:
        for part in re.split(r"HOST:PORT|vsw0|\.\.\.", message):
            assert part.strip() in said, message


def contents(page: Path) -> list[str]:
    """What a page lists at its beginning."""
    (listed,) = re.findall(r"\n\n((?:- \[.+\]\(#.+\)\n)+)\n", page.read_text())
    return re.findall(r"^- \[(.+)\]\(#", listed, re.M)


LONG = [page for page in PAGES if re.search(r"\n\n- \[.+\]\(#", page.read_text())]


@pytest.mark.parametrize("page", LONG, ids=title_of)
def test_contents_list_every_section(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M)
    assert contents(page) == re.findall(r"^## (.+)$", text, re.M)


def test_every_key_of_foreign_ports_is_explained():
    keys, reasons = re.split(r"\n\n(?=\| Reason)", section("Foreign ports"))
    listed = [name for row in rows(keys) for name in code(row[0])]
    assert sorted(listed) == sorted(options_of(ForeignSettings))
    kinds = next(row for row in rows(keys) if "kind" in row[0])
    assert set(code(kinds[3])) == set(KINDS)
    sources = "".join(path.read_text() for path in (ROOT / "vswitch/foreign").glob("*.py"))
    counted = re.findall(r"(?:\.refuse\(|\brefused\[)([^])]*)", sources)
    named = {word for each in counted for word in re.findall(r'"(\w+)"', each)}
    assert {code(row[0])[0] for row in rows(reasons)} == {FAULT, *named}


def test_every_reason_why_a_client_of_http_is_refused_is_explained():
    _, reasons = re.split(r"\n\n(?=\| Reason)", section("The API"))
    sources = [*(ROOT / "vswitch/web").glob("*.py"), ROOT / "vswitch/api/gate.py"]
    text = "".join(path.read_text() for path in sources)
    counted = re.findall(r"counters\[([^]]*)\]", text)
    named = {word for each in counted for word in re.findall(r'"(\w+)"', each)}
    assert {code(row[0])[0] for row in rows(reasons)} == named


def test_every_exit_code_is_explained():
    codes = {value for name, value in vars(ExitCode).items() if name.isupper()}
    listed = [int(row[0]) for row in rows(section("Exit codes"))]
    assert listed == sorted(codes)


def test_every_drop_is_explained():
    of_switch, of_services, of_member, of_transport = (
        [code(row[0])[0] for row in rows(table)]
        for table in re.split(r"\n\n(?=[^|\n])", section("Counters"))
        if "\n|" in table
    )
    importlib.import_module("vswitch.features.manager")  # which imports every feature
    declared = [str(reason) for kind in Drop.__subclasses__() for reason in kind]
    assert sorted(of_switch) == sorted(declared)
    for path in (ROOT / "vswitch/services").glob("*.py"):
        importlib.import_module(f"vswitch.services.{path.stem}")
    refused = [str(reason) for kind in ServiceDrop.__subclasses__() for reason in kind]
    assert sorted(of_services) == sorted(refused)
    sources = [
        path
        for room in ("joining", "devices", "members", "switch", "foreign")
        for path in (ROOT / "vswitch" / room).glob("*.py")
    ]
    text = "".join(path.read_text() for path in sources)
    named = re.findall(r'(?<![a-z])drop(?:s|ped)\["(\w+)"\]', text)
    kcp = "".join((ROOT / f"transport/lanes/{each}.py").read_text() for each in ("kcp", "arrivals"))
    named += re.findall(r'(?:drops\[|BadPacket\()"(\w+)"', kcp)  # of a foreign KCP client
    foreign = {"unreachable", *SEND_REASONS.values()}
    assert sorted(of_member) == sorted(
        {"refused", *DROP_REASON.values(), *STAYS_HOME, *foreign, *named}
    )
    assert sorted(of_transport) == sorted(DROP_REASONS)


def test_every_failure_and_drop_of_the_proxy_is_explained():
    sources = "".join(path.read_text() for path in (ROOT / "vswitch/proxy").glob("*.py"))
    named = set(re.findall(r'(?:(?:failed|drops)\[|CannotConnect\()"(\w+)"', sources))
    ends = {end.value for end in End if end is not End.DONE}
    named |= {"failed", "full", *REASONS.values(), *ends}
    listed = {code(row[0])[0] for row in rows(section("Proxy"))}
    assert {word for word in listed if not word.startswith("--")} == named


def test_every_key_of_what_is_published_is_explained():
    keys, reasons = re.split(r"\n\n(?=\| Reason)", section("Publish a service"))
    assert [code(row[0])[0] for row in rows(keys)] == [
        "listen",
        "to",
        *(name for name in options_of(PublishRule) if name not in ("listen", "to")),
    ]
    assert options_of(PublishLimits).items() <= options_of(PublishRule).items()
    sources = [
        *(ROOT / "vswitch/services").glob("*.py"),
        ROOT / "vswitch/serving/publishing.py",
        ROOT / "vswitch/proxy/listeners.py",
    ]
    text = "".join(path.read_text() for path in sources)
    patterns = r"(?:failed|drops)\[", r"CannotConnect\(", r"return ", r"\.end\(\w+, ", r"why="
    named = {word for each in patterns for word in re.findall(rf'{each}"(\w+)"', text)}
    named |= {"full", "failed", *REASONS.values(), *(e.value for e in End if e is not End.DONE)}
    assert {code(row[0])[0] for row in rows(reasons)} == named


def events(source: str) -> set[str]:
    """First words of what is logged: `event(log, "port-up", ...)`, `log.info("port-up ...")`;
    `link.tell("notice", ...)` of what a switch can cause."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Name("event") | ast.Attribute(attr="_event"),
                args=[_, ast.Constant(str(text)), *_],
            ):
                texts.append(text)
            case ast.Call(func=ast.Attribute(_, "tell"), args=[ast.Constant(str(text)), *_]):
                texts.append(text)
            case ast.Call(
                func=ast.Attribute(ast.Name("log" | "_log" | "logger"), level), args=args
            ):
                if level in LEVELS:
                    texts += [arg.value for arg in args if isinstance(arg, ast.Constant)]
    words = {text.split()[0] for text in texts if isinstance(text, str)}
    return {word for word in words if "%" not in word}


def test_every_event_of_the_log_is_explained():
    sources = [
        path for package in ("vswitch", "transport") for path in (ROOT / package).rglob("*.py")
    ]
    in_code = set().union(*(events(path.read_text()) for path in sources))
    assert {"serving", "port-up", "port-down", "path-changed", "api-failed"} <= in_code
    assert {name for row in rows(section("Log")) for name in code(row[0])} == in_code


def heading_anchor(title: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M)
    return {heading_anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_files_in_documents_exist(page):
    """Named from the top, or from the package or the tests that the page is about."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M)
    # Its first rows tell of files that somebody will write.
    text = re.sub(r"^## To add something\n.*?(?=^## )", "", text, flags=re.DOTALL | re.M)
    tops = [ROOT, *(ROOT / top for top in ("vswitch", "transport", "tests"))]
    for name in re.findall(r"`([\w/]+/\w+\.py)`", text):
        assert any((top / name).exists() for top in tops), name


@pytest.mark.parametrize("package", ["vswitch", "transport"])
def test_architecture_names_every_room(package):
    text = (ROOT / "docs" / "architecture.md").read_text()
    (table,) = re.findall(rf"^\| `{package}/` \|.*?(?=\n\n)", text, re.DOTALL | re.M)
    named = [room for row in rows(table) for room in code(row[0])]
    assert sorted(named) == sorted(
        path.parent.name for path in (ROOT / package).glob("*/__init__.py")
    )


def decision_field(page: Path, name: str) -> str:
    (value,) = re.findall(rf"^- {name}: (.+(?:\n  .+)*)$", page.read_text(), re.M)
    return value


@pytest.mark.parametrize("page", DECISIONS, ids=title_of)
def test_decision_has_number_date_status_and_measurement(page):
    assert page.read_text().startswith(f"# {page.name[:2]}: ")
    date.fromisoformat(decision_field(page, "Date"))
    assert decision_field(page, "Measured")
    status = decision_field(page, "Status")
    if status != "accepted":
        (number,) = re.fullmatch(r"superseded by (\d\d)", status).groups()
        (later,) = (each for each in DECISIONS if each.name.startswith(number))
        assert decision_field(later, "Date") >= decision_field(page, "Date")


def test_index_lists_every_decision():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    numbers = [page.name[:2] for page in DECISIONS]
    assert numbers == [f"{number:02}" for number in range(1, len(DECISIONS) + 1)]
    assert rows(index) == [
        [
            f"[{page.name[:2]}]({page.name})",
            re.match(r"# \d\d: (.+)", page.read_text())[1],
            decision_field(page, "Date"),
            decision_field(page, "Status"),
        ]
        for page in DECISIONS
    ]


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_commands_in_documents_exist(page):
    text = page.read_text()
    shell = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.DOTALL | re.M))
    inline = "\n".join(re.findall(r"`(vswitch [^`]+)`", text))
    for line in f"{shell}\n{inline}".splitlines():
        for found in re.finditer(r"(?:^|[ #/])vswitch ([a-z]+)\b([^#]*)", line):
            command, rest = found.groups()
            if command == "help":
                assert rest.split()[0] in (*SUMMARIES, "COMMAND", "commands"), line
                continue
            if (ROOT / command).exists() or command not in SUMMARIES:
                assert "useradd" in line or "chown" in line or "runuser" in line, line
                continue
            flags = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
            assert flags <= flags_of(command), line


@pytest.mark.parametrize("page", PAGES, ids=title_of)
def test_programs_beside_the_package_exist(page):
    """`python -m tests.fuzz`, also without the beginning; and the targets that are asked for."""
    for name in re.findall(r"\b((?:tests|benchmarks)(?:\.[a-z]+)+)\b(?=[ `])", page.read_text()):
        path = ROOT / name.replace(".", "/")
        program = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert "argv" in program.read_text() or "argparse" in program.read_text(), name
    for names in re.findall(r"tests\.fuzz.*? --target((?: [a-z]+)+)", page.read_text()):
        assert set(names.split()) <= TARGETS.keys()


def test_figures_of_the_model_are_those_of_its_page():
    policy, page = ((ROOT / name).read_text() for name in ("SECURITY.md", "docs/model.md"))
    figures = re.findall(r"([\d,]+) (?:states|steps)", policy)
    assert figures
    assert all(f"| {figure} |" in page for figure in figures)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_what_exists(unit):
    (start,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.M)
    program, command, *arguments = shlex.split(start.replace("%i", "pc1").replace("%S", "/var/lib"))
    assert program == "/opt/vswitch/bin/vswitch"
    given = parser_of(command).parse_args(arguments)
    assert given.state == (None if unit.name in OF_USERS else "/var/lib/vswitch")


OF_USERS = {"vswitch-proxy@.service"}


def test_there_are_three_units_and_all_are_in_the_wheel():
    names = ["vswitch-join@.service", "vswitch-proxy@.service", "vswitch-serve.service"]
    assert [unit.name for unit in UNITS] == names
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    data = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    for name in names:
        manager = "user" if name in OF_USERS else "system"
        assert data[f"examples/{name}"] == f"lib/systemd/{manager}/{name}"


def test_the_example_of_a_configuration_file_is_right():
    path = ROOT / "examples" / "vswitch.toml"
    flags = {"config": str(path)}
    served = load(ServeConfig, flags, {}, table="serve", tables=TABLES)
    joined = load(JoinConfig, flags, {}, table="join", tables=TABLES, name="pc1")
    assert [str(each) for each in served.public] == ["switch.example.org:0"]
    assert attrs.evolve(served, public=None, config=None) == ServeConfig(state=served.state)
    assert attrs.evolve(joined, config=None) == JoinConfig(name="pc1", state=joined.state)


def tools_of_tests() -> set[str]:
    """The programs that `@pytest.mark.netns(...)` names, also by a constant of the file."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                names = getattr(node.targets[0], "elts", [])
                constants |= {n.id: v for n, v in zip(names, node.value.elts, strict=False)}
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="netns"), args=args):
                    named = [constants.get(getattr(arg, "id", None), arg) for arg in args]
                    found |= {ast.literal_eval(arg) for arg in named}
    return found


def test_ci_installs_every_program_that_tests_name():
    script = (ROOT / ".ci" / "run").read_text()
    lists = re.findall(r"^(?:tools|unpacked)=\((.*?)\)$", script, re.DOTALL | re.M)
    assert len(lists) == 2
    tools = tools_of_tests()
    assert {"ping", "avahi-daemon", "/usr/lib/frr/bgpd"} <= tools
    assert tools <= {entry.partition(":")[0] for listed in lists for entry in listed.split()}


def test_every_dependency_is_explained_with_its_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *chain(*extras.values())]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    listed = {}
    for row in rows(text):
        if len(row) == 4 and code(row[1]):  # not those of the platforms
            name = re.sub(r"\[([^]]+)\].*", r"\1", row[0])
            listed[name] = code(row[1])[0]
    assert listed == {
        re.split(r"[=<>]", each, maxsplit=1)[0]: re.sub(r"^[\w-]+", "", each) for each in wanted
    }
