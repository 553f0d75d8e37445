"""What an administrator does at the page: networks, rules, tokens, ports, invites, captures."""

from pathlib import Path
from urllib.parse import urlsplit

import trio

from tests.vswitch.api.test_api import Client, free_port
from tests.vswitch.frames.test_pcapng_property import blocks
from tests.vswitch.page.test_page import PATIENCE, faults, go, gone, log_in, shown, talk, too_wide
from vswitch.api.roles import Role
from vswitch.api.tokens import TokenStore
from vswitch.registry.invite import JoinString

CONFIG = """
[names]
enabled = false
[rules]
list = ["allow pc1 -> pc2 tcp 22", "deny any -> pc2 udp"]
[network.lab]
subnet = "10.78.0.0/24"
[network.lab.names]
enabled = false
"""
LEGACY = {"table": {"list": ["deny pc1 -> pc2 tcp 23"]}}
PACKET, SECTION = 6, 0x0A0D0D0A  # blocks of pcapng


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def accept(page):
    """The question that has come up."""
    page.click("dialog button.danger")


def fill(page, row, **fields):
    """A line of rules, by the labels of its fields."""
    line = page.get_by_role("group", name=row, exact=True)
    for label, value in fields.items():
        field = line.get_by_label(label.replace("_", " "), exact=True)
        if label == "Verdict":
            field.select_option(value)
        else:
            field.fill(value)


async def test_who_administers_steers_by_the_page(site, browser):
    """Two networks, one at a time. Settings of a port, refused at their field and not, and saved.
    Rules edited: what is wrong stands at its line, the try-it box knows what is not in force, who
    was slower is told, the order counts. A token, used and revoked. An invite with places and an
    expiry. A copy button, and a capture that is a whole file.
    """
    site.files.ensure()
    store = TokenStore(site.files.tokens)
    tokens = {role: store.create(role.text, role) for role in (Role.OPERATE, Role.ADMIN)}
    site.path.mkdir(exist_ok=True)
    config = site.path / "serve.toml"
    config.write_text(CONFIG)
    clipboard = ["clipboard-read", "clipboard-write"]
    async with (
        browser(viewport={"width": 1280, "height": 900}, permissions=clipboard) as chrome,
        site.serving(api="127.0.0.1:0", public="127.0.0.1", config=config) as running,
        site.joined("pc1", running) as one,
        site.joined("pc2", running) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(talk, one, other)
        where = running.underlay.api
        admin = Client(where, tokens[Role.ADMIN])
        await chrome.do(log_in, f"http://{where}/", tokens[Role.OPERATE])
        await _as_operator(chrome)
        await chrome.do(press, "Log out")
        await chrome.do(log_in, f"http://{where}/", tokens[Role.ADMIN])
        await _networks(chrome)
        await _port(chrome, admin)
        await _rules(chrome, admin)
        await _tokens(chrome, where)
        await _invite(chrome, site)
        await _download(chrome)
        await _services(chrome, admin)
        nursery.cancel_scope.cancel()
    assert {urlsplit(each).netloc for each in chrome.requests if not each.startswith("data:")} == {
        where
    }
    assert chrome.errors == []


async def _as_operator(chrome):
    """Rules are shown, not edited; of tokens nothing is there, whatever the address says."""
    await chrome.do(go, "rules")
    await chrome.do(shown, "tr", "deny.*any → pc2 udp")
    assert await chrome.do(lambda page: page.locator("main section.card .head button").count()) == 0
    assert await chrome.do(lambda page: page.locator('nav a[href="#tokens"]').count()) == 0
    await chrome.do(lambda page: page.evaluate("location.hash = 'tokens'"))
    await chrome.do(shown, "nav a[aria-current]", "Overview")


async def _networks(chrome):
    await chrome.do(shown, ".host .name", "pc1")
    await chrome.do(lambda page: page.get_by_label("Network", exact=True).select_option("lab"))
    await chrome.do(shown, ".panel", "lab.*10.78.0.0/24")
    await chrome.do(shown, ".picture .empty", "Nobody is plugged in yet")
    assert await chrome.do(lambda page: page.locator(".host").count()) == 0
    await chrome.do(lambda page: page.get_by_label("Network", exact=True).select_option("default"))
    await chrome.do(shown, ".host .name", "pc2")


async def _port(chrome, admin):
    await chrome.do(go, "ports")
    await chrome.do(press, "Settings: pc1")
    await chrome.do(shown, "dialog .field", "isolated · default")
    assert await chrome.do(faults) == []
    await chrome.do(lambda page: page.check("#set-isolated"))
    await chrome.do(lambda page: page.fill("#set-vlan", "5000"))
    await chrome.do(press, "Save")
    await chrome.do(shown, "#vlan-wrong", "1 to 4094")
    invalid = "dialog [aria-invalid]"
    assert await chrome.do(lambda page: page.locator(invalid).get_attribute("id")) == "set-vlan"
    await chrome.do(lambda page: page.fill("#set-vlan", ""))
    await chrome.do(lambda page: page.fill("#set-storm_broadcast", "300"))
    await chrome.do(press, "Save")
    await chrome.do(gone, "dialog", "")
    said = (await admin("GET", "/v1/ports/pc1"))[1]["settings"]
    assert (said["isolated"], said["storm_broadcast"], said["vlan"]) == (True, 300, None)
    await chrome.do(press, "Settings: pc1")
    await chrome.do(shown, "dialog .field", r"isolated · \[port.pc1\] not saved")
    await chrome.do(press, "Cancel")
    await chrome.do(go, "settings")
    await chrome.do(shown, ".strip", "port.pc1.isolated, port.pc1.storm_broadcast")
    await chrome.do(press, "Save all")
    await chrome.do(lambda page: page.locator(".strip").wait_for(state="hidden", timeout=PATIENCE))
    assert (await admin("GET", "/v1/config/diff"))[1]["unsaved"] == []
    await admin("PATCH", "/v1/ports/pc1", {"isolated": False})


async def _rules(chrome, admin):
    await chrome.do(go, "rules")
    await chrome.do(press, "Edit")
    await chrome.do(shown, "main", "Lines: 2; tests that hold: 0")
    assert await chrome.do(faults) == []
    await chrome.do(press, "+ Add a line")
    await chrome.do(
        lambda page: fill(page, "Rule 3", Verdict="deny", From="office", Protocol="tcp")
    )
    await chrome.do(lambda page: fill(page, "Rule 3", Ports_or_types="80-22"))
    await chrome.do(shown, ".line", "the first port is above the last")
    assert await chrome.do(faults) == []
    await chrome.do(lambda page: fill(page, "Rule 3", Ports_or_types="22"))
    await chrome.do(press, "+ Add a group")
    await chrome.do(
        lambda page: page.get_by_role("textbox", name="Group", exact=True).fill("office")
    )
    await chrome.do(lambda page: page.get_by_label("Members of the group").fill("pc1, pc2"))
    await chrome.do(press, "+ Add a test")
    test = {"From": "pc1", "To": "pc2", "Protocol": "tcp", "Ports_or_types": "22"}
    await chrome.do(lambda page: fill(page, "Test 1", Verdict="denied", **test))
    await chrome.do(shown, ".line", "it is allowed, by rule 1: allow pc1 -> pc2 tcp 22")
    await chrome.do(lambda page: page.keyboard.press("Enter"))  # in a field: nothing
    await chrome.do(press, "Go by these")  # refused whole
    await chrome.do(shown, ".bar", "Some lines are not right yet")
    assert len((await admin("GET", "/v1/rules"))[1]["rules"]) == 2
    await chrome.do(_move_up_twice, "Rule 3")
    await chrome.do(shown, "main", "Lines: 3; tests that hold: 1")

    await chrome.do(lambda page: page.get_by_label("Or in words").fill("pc1 pc2 tcp 22"))
    await chrome.do(press, "Ask the switch")
    await chrome.do(shown, ".verdict.good", "pc2")  # as it is in force
    await chrome.do(shown, ".drafted .verdict.bad", "denied, by rule 1: deny office -> any tcp 22")

    # What is typed outlives a look elsewhere, and another language.
    await chrome.do(go, "events")
    await chrome.do(go, "rules")
    await chrome.do(shown, "main", "Lines: 3; tests that hold: 1")
    for width in (2560, 1280, 390):
        size = {"width": width, "height": 900}
        await chrome.do(lambda page, size: page.set_viewport_size(size), size)
        assert not await chrome.do(too_wide), width
    assert await chrome.do(faults) == []
    await chrome.do(lambda page: page.set_viewport_size({"width": 1280, "height": 900}))

    await admin("PUT", "/v1/rules", LEGACY)
    await chrome.do(press, "Go by these")
    await chrome.do(shown, ".bar", "Somebody else has changed the rules meanwhile")
    await chrome.do(press, "Drop mine and edit theirs")
    await chrome.do(shown, "main", "Lines: 1; tests that hold: 0")
    await chrome.do(lambda page: fill(page, "Rule 1", Verdict="allow", To="", Protocol="icmp"))
    await chrome.do(lambda page: fill(page, "Rule 1", Ports_or_types="echo-request"))
    await chrome.do(lambda page: page.get_by_label("What no line names").select_option("deny"))
    await chrome.do(lambda page: page.get_by_label("Keep it after a restart").check())
    await chrome.do(press, "Go by these")
    await chrome.do(shown, "tr", "allow.*pc1 → any icmp echo-request")
    said = (await admin("GET", "/v1/rules"))[1]
    assert (said["default"], said["said"]) == ("deny", "saved")
    assert [each["rule"] for each in said["rules"]] == ["allow pc1 -> any icmp echo-request"]
    await admin("PUT", "/v1/rules", {"table": {}})
    await chrome.do(shown, ".head .badge", "not saved")


def _move_up_twice(page, row):
    """By keyboard: the button goes along, and keeps the focus."""
    page.get_by_role("group", name=row, exact=True).get_by_label("Move up").press("Enter")
    page.keyboard.press("Enter")


async def _tokens(chrome, where):
    await chrome.do(go, "tokens")
    await chrome.do(lambda page: page.get_by_label("Name", exact=True).fill("night"))
    await chrome.do(lambda page: page.locator("main select").select_option("operate"))
    await chrome.do(press, "Make a token")
    await chrome.do(shown, "tr", "night.*may operate")
    assert await chrome.do(faults) == []
    token = await chrome.do(lambda page: page.text_content(".string"))
    await chrome.do(press, "Copy")
    await chrome.do(shown, "#said", "Copied")
    assert await chrome.do(lambda page: page.evaluate("navigator.clipboard.readText()")) == token
    night = Client(where, token)
    assert (await night("GET", "/v1/session"))[1]["role"] == "operate"
    assert (await night("GET", "/v1/tokens"))[0] == 403
    await chrome.do(go, "overview")
    await chrome.do(go, "tokens")
    await chrome.do(shown, "tr", "night.*may operate")
    assert token not in await chrome.do(lambda page: page.content())
    await chrome.do(press, "Revoke: night")
    await chrome.do(accept)
    await chrome.do(gone, "tr", "night")
    assert (await night("GET", "/v1/session"))[0] == 401


async def _invite(chrome, site):
    await chrome.do(go, "members")
    await chrome.do(lambda page: page.get_by_label("Name of the new member").fill("pc9"))
    await chrome.do(lambda page: page.get_by_label("Good for").select_option("600"))
    await chrome.do(lambda page: page.click("summary"))
    places = "a.example:7000, b.example"
    await chrome.do(lambda page: page.get_by_label("Where the switch is reached").fill(places))
    await chrome.do(press, "Make a join string")
    await chrome.do(shown, ".invitation", "On pc9, run")
    string = (await chrome.do(lambda page: page.text_content(".string"))).split()[-1]
    said = JoinString.parse_untrusted(string).servers
    assert [each.host for each in said] == ["a.example", "b.example"]
    with site.registry() as registry:
        [invite] = registry.open_invites(0)
    assert (invite.name, round(invite.expires - invite.created)) == ("pc9", 600)
    await chrome.do(press, "End: pc9")
    await chrome.do(gone, ".chips li", "pc9")
    # What shows the string as a picture may fail: the string alone is enough.
    busy = {"error": "later", "code": 3, "problem": "busy", "about": {}}
    await chrome.do(
        lambda page: page.route("**/v1/qr*", lambda route: route.fulfill(status=503, json=busy))
    )
    await chrome.do(lambda page: page.get_by_label("Name of the new member").fill("pc8"))
    await chrome.do(press, "Make a join string")
    await chrome.do(shown, ".invitation", "On pc8, run.*no picture of it: the switch has more")
    string = (await chrome.do(lambda page: page.text_content(".string"))).split()[-1]
    assert JoinString.parse_untrusted(string)
    await chrome.do(lambda page: page.unroute_all(behavior="wait"))


async def _download(chrome):
    await chrome.do(go, "capture")
    found = await chrome.do(_pcapng)
    kinds = [kind for kind, _ in blocks(found)]
    assert kinds[0] == SECTION
    assert PACKET in kinds


async def _services(chrome, admin):
    """Published, kept or not, and not any more; a lease that nobody has; what was learned."""
    await chrome.do(go, "services")
    await chrome.do(_publish, "tcp://127.0.0.1:0", "pc1:80")  # refused, and what was typed stays
    await chrome.do(shown, "form .bad-text", "publish.listen")
    port = free_port()
    await chrome.do(_publish, f"tcp://127.0.0.1:{port}", "pc1:80")
    await chrome.do(shown, "tr", f":{port}.*not saved.*pc1:80")
    await chrome.do(shown, ".strip", f"publish.*{port}")
    await chrome.do(press, f"Unpublish: tcp://127.0.0.1:{port}")
    await chrome.do(accept)
    await chrome.do(gone, "tr", f":{port}")
    assert (await admin("GET", "/v1/published"))[1]["published"] == []
    await chrome.do(go, "macs")
    await chrome.do(press, "Forget all learned")
    await chrome.do(accept)
    await chrome.do(gone, "dialog", "")


def _publish(page, listen, to):
    page.get_by_label("Listens at", exact=True).fill(listen)
    page.get_by_label("Leads to", exact=True).fill(to)
    page.get_by_role("button", name="Publish", exact=True).click()


def _pcapng(page):
    """A file of a second, which is less than people choose."""
    page.locator('main option[value="10"]').evaluate("(option) => (option.value = '1')")
    with page.expect_download(timeout=PATIENCE) as download:
        page.get_by_role("button", name="Download pcapng").click()
    assert download.value.suggested_filename == "vswitch.pcapng"
    return Path(download.value.path()).read_bytes()
