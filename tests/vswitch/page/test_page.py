"""The page in a browser, at a real switch under traffic."""

import json
import re
from urllib.parse import urlsplit

import trio

from tests.vswitch.api.test_api import free_port
from vswitch.api.roles import Role
from vswitch.api.tokens import TokenStore
from vswitch.errors import RefusedError
from vswitch.frames.ethernet import parse_mac

PATIENCE = 20_000  # ms: far beyond what anything here takes on a loaded machine
BROADCAST = b"\xff" * 6
SECTIONS = (
    *("overview", "ports", "members", "macs", "services"),
    *("rules", "events", "drops", "capture", "settings", "tokens"),
)


def frame(destination, source, size=300):
    return destination + source + b"\x88\xb5" + bytes(size)


async def talk(one, other):
    """What each sends the other, until cancelled; and something that the switch has to drop."""
    macs = [parse_mac(each.interface.mac) for each in (one, other)]
    while True:
        one.interface.feed(frame(macs[1], macs[0]))
        other.interface.feed(frame(macs[0], macs[1]))
        one.interface.feed(frame(BROADCAST, b"\x01" + macs[0][1:]))  # from a group
        for each in (one, other):
            each.interface.take()
        await trio.sleep(0.02)


def log_in(page, where, token):
    page.goto(where)
    page.fill("#token", token)
    page.keyboard.press("Enter")


def go(page, section):
    page.click(f'nav a[href="#{section}"]')


def shown(page, selector, text):
    page.locator(selector, has_text=re.compile(text)).first.wait_for(timeout=PATIENCE)


def faults(page, *rules):
    """What axe-core finds that keeps people out, as short texts; by these of its rules, or all."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def too_wide(page):
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


async def test_who_looks_sees_what_happens(site, browser, tmp_path):
    """Log-in, refused and not; a member that comes; its rate; a drop and its reason; no log-in any
    more. In both themes and languages, without a serious fault, nor anything from elsewhere.
    """
    site.files.ensure()
    store = TokenStore(site.files.tokens)
    token = store.create("look", Role.ADMIN)
    async with (
        browser(viewport={"width": 1280, "height": 900}, color_scheme="dark") as chrome,
        site.serving(api="127.0.0.1:0") as running,
        site.joined("pc1", running) as one,
    ):
        where = f"http://{running.underlay.api}/"
        await chrome.do(log_in, where, "vsw_wrong")
        await chrome.do(shown, "[role=alert]", "not known")
        assert await chrome.do(faults) == []
        await chrome.do(log_in, where, token)
        await chrome.do(shown, ".host .name", "pc1")

        async with (
            site.joined("pc2", running, address="none") as other,  # as one that bridges
            trio.open_nursery() as nursery,
        ):
            await chrome.do(shown, ".host .name", "pc2")
            await chrome.do(shown, "main", r"Members online\s*2\s*of 2")
            nursery.start_soon(talk, one, other)
            await chrome.do(shown, ".host .rates", r"↑ [1-9].*↓ [1-9]")
            for theme, rules in (("dark", ()), ("light", ("color-contrast",))):
                for section in SECTIONS:
                    await chrome.do(go, section)
                    await chrome.do(
                        lambda page: page.wait_for_selector("main h1", state="attached")
                    )
                    assert await chrome.do(faults, *rules) == [], (theme, section)
                    await chrome.do(_picture, tmp_path / f"{section}-{theme}.png")
                await chrome.do(lambda page: page.click("header .looks button >> nth=1"))
            await chrome.do(go, "drops")
            await chrome.do(shown, "tr:has(code)", "source_multicast.*from a group address")
            await chrome.do(lambda page: page.click("header .looks button >> nth=0"))
            await chrome.do(shown, "tr:has(code)", "源地址是组地址")
            assert (
                await chrome.do(lambda page: page.evaluate("document.documentElement.lang"))
                == "zh-Hans"
            )
            await chrome.do(go, "capture")
            await chrome.do(lambda page: page.get_by_label("过滤").fill("nonsense"))
            await chrome.do(lambda page: page.click("main button.primary"))
            await chrome.do(shown, "[role=alert]", "过滤表达式不正确：.*no term")
            await chrome.do(shown, "[role=alert] [lang=en]", "^[^过]*no term")
            await chrome.do(go, "ports")
            await chrome.do(_set_vlan, "设置: pc1", "9999")
            await chrome.do(shown, "#vlan-wrong", "填写的内容不正确：.*1 to 4094")
            await chrome.do(shown, "#vlan-wrong [lang=en]", "^[^填]*1 to 4094")
            await chrome.do(lambda page: page.keyboard.press("Escape"))
            for width in (390, 2560):
                await chrome.do(
                    lambda page, width: page.set_viewport_size({"width": width, "height": 800}),
                    width,
                )
                for section in SECTIONS:
                    await chrome.do(go, section)
                    assert not await chrome.do(too_wide), (width, section)
                    if (width, section) == (390, "members"):  # where rows of tables are cards
                        assert await chrome.do(faults) == [], section
            nursery.cancel_scope.cancel()

        store.revoke("look")
        await chrome.do(shown, "[role=alert]", "已退出")
        assert await chrome.do(lambda page: page.locator(".host").count()) == 0
    assert {urlsplit(each).netloc for each in chrome.requests} == {urlsplit(where).netloc}
    assert chrome.errors == []


def _picture(page, path):
    page.screenshot(path=path)


async def test_who_operates_changes_it(site, browser):
    """By the page alone: a network behind a member is approved; a host is invited, and comes; is
    called otherwise, kept out, let in again, and revoked. A capture shows a drop and its reason; a
    question about a frame is answered; a setting is another one. Who may only read has none of
    that; who tries tokens is slowed.
    """
    site.files.ensure()
    store = TokenStore(site.files.tokens)
    tokens = {role: store.create(role.text, role) for role in (Role.READ, Role.ADMIN)}
    async with browser(viewport={"width": 1280, "height": 900}) as chrome:
        async with (
            site.serving(api="127.0.0.1:0", public="127.0.0.1") as running,
            site.joined("pc1", running, advertise="192.168.7.0/24") as one,
        ):
            where = f"http://{running.underlay.api}/"
            await _operate(site, chrome, where, one, tokens)
            await chrome.do(log_in, where, tokens[Role.READ])  # which nobody's mistakes prevent
            await chrome.do(shown, ".host .name", "pc1")
        await chrome.do(shown, ".banner", "does not answer")
    assert chrome.errors == []


async def _operate(site, chrome, where, one, tokens):
    await chrome.do(log_in, where, tokens[Role.ADMIN])
    await chrome.do(go, "members")
    async with (
        site.joined("pc2", None, invite=await chrome.do(_invite, "pc2")) as other,
        trio.open_nursery() as nursery,
    ):
        await chrome.do(shown, "tr", "pc2.*connected")
        nursery.start_soon(talk, one, other)
        await chrome.do(go, "capture")
        await chrome.do(lambda page: page.click("main button.primary"))
        await chrome.do(shown, "tr.bad", "pc1.*Dropped: source_multicast")
        await chrome.do(shown, "tr", "pc1.*forwarded: to pc2")
        nursery.cancel_scope.cancel()
        await chrome.do(go, "rules")
        await chrome.do(_try, "pc1 pc2 tcp 22")
        await chrome.do(shown, ".verdict.good", "pc2")
        await chrome.do(go, "events")
        await chrome.do(shown, "li", "member-enrolled.*pc2")

        await chrome.do(go, "members")
        await chrome.do(_press, "Approve: pc1")
        await chrome.do(shown, "#said", "pc1 leads to 192.168.7.0/24")
        assert (await site.status()).ports[0].routes == ["192.168.7.0/24"]
        await chrome.do(_press, "Rename: pc2", "pc1")
        await chrome.do(shown, "dialog .bad-text", "pc1 is a member already: take another name")
        await chrome.do(lambda page: page.keyboard.press("Escape"))
        await chrome.do(_press, "Rename: pc2", "pc3")
        await chrome.do(shown, "tr", "pc3")
        await chrome.do(_press, "Disable: pc3")
        await chrome.do(shown, "tr", "pc3.*disabled")
        await chrome.do(_press, "Enable: pc3", None)
        await chrome.do(shown, "tr", "pc3.*(away|connected)")
        await chrome.do(_press, "Revoke: pc3")
        await chrome.do(gone, "tr", "pc3")
        assert isinstance(await other.wait_ended(), RefusedError)

    await chrome.do(hostile)
    for section in SECTIONS:
        await chrome.do(go, section)
        if section not in ("drops", "capture"):  # whose texts are the page's own, or come by frames
            await chrome.do(shown, "main", "onerror=")
        assert await chrome.do(lambda page: page.locator("main img").count()) == 0, section
        assert await chrome.do(lambda page: page.title()) != "x"
    await chrome.do(lambda page: page.unroute_all(behavior="wait"))

    await chrome.do(go, "settings")
    await chrome.do(lambda page: page.select_option("main select", "pc1"))
    await chrome.do(_change, "isolated", "true")
    await chrome.do(shown, "tr", "isolated.*true")
    assert (await site.status()).ports[0].settings["isolated"] is True

    await chrome.do(lambda page: page.click("header .looks button >> nth=-1"))
    await chrome.do(log_in, where, tokens[Role.READ])
    await chrome.do(shown, ".who", "read")
    await chrome.do(go, "members")
    await chrome.do(shown, "tr", "pc1.*connected")
    assert await chrome.do(lambda page: page.locator("main button.small, main form").count()) == 0
    await chrome.do(go, "capture")
    await chrome.do(shown, "main", "needs a token that may operate")

    await chrome.do(lambda page: page.click("header .looks button >> nth=-1"))
    await chrome.do(log_in, where, "vsw_wrong")
    assert await chrome.do(_is_slowed)


MARKUP = "<img src=/none onerror=\"document.title='x'\">"
WRONG = """Promise.all(Array.from({length: 20}, () =>
  fetch("v1/login", {method: "POST", body: '{"token": "vsw_wrong"}'})))"""


def _is_slowed(page):
    """Whether a wrong token is refused unseen once many have been tried. One is looked at each
    second, so the first one after them may still be.
    """
    for _ in range(20):
        page.evaluate(WRONG)
        page.click("form button.primary")
        page.wait_for_function("!document.querySelector('form button.primary').disabled")
        if page.locator("[role=alert]", has_text="Too many tries").count():
            return True
    return False


def _invite(page, name):
    """The join string that the page makes."""
    page.fill("form input", name)
    page.click("form button.primary")
    page.wait_for_selector(".invitation img", timeout=PATIENCE)
    assert page.evaluate("document.querySelector('.invitation img').decode().then(() => true)")
    said = page.text_content(".string")
    assert said.startswith("vswitch join ")
    return said.split()[-1]


def _press(page, label, answer=""):
    """A button of a member, and yes to the question that comes of it; or that answer to it."""
    page.click(f'button[aria-label="{label}"]')
    if answer:
        page.fill("dialog input", answer)
    if answer is not None:
        page.click("dialog button:last-of-type")


def buttons(page):
    return page.locator("main button.small, main form").count()


WORDS = ("state", "role", "default", "verdict", "direction", "said", "why", "lane_mode", "code")


def hostile(page):
    """Whatever others may have a say in is markup: names, addresses, hosts, rules, events."""
    lease = {"address": "10.77.0.9", "mac": MARKUP, "name": MARKUP, "port": MARKUP, "expires_s": 9}

    def evil(value, key=""):
        if isinstance(value, dict):
            return {name: evil(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [evil(each, key) for each in value]
        if not isinstance(value, str) or key in WORDS:
            return value
        return f"deny {MARKUP}" if key == "rule" else MARKUP

    def answer(route):
        if "/v1/leases" in route.request.url:
            route.fulfill(json={"leases": [lease], "quiet": MARKUP})
        elif "/v1/events" in route.request.url:
            said = {"number": 1, "at": 1.0, "kind": MARKUP, "port": MARKUP, "via": MARKUP}
            route.fulfill(body=f"data: {json.dumps(said)}\n\n", content_type="text/event-stream")
        else:
            route.fulfill(json=evil(route.fetch().json()))

    page.route("**/v1/**", answer)


def _try(page, words):
    page.get_by_label("Or in words").fill(words)
    page.click("main button.primary")


def _set_vlan(page, label, value):
    page.click(f'button[aria-label="{label}"]')
    page.fill("#set-vlan", value)
    page.click("dialog button.primary")


def _change(page, key, value):
    page.click(f'button[aria-label="Change: {key}"]')
    page.fill(f'input[aria-label="{key}"]', value)
    page.keyboard.press("Enter")


def gone(page, selector, text):
    page.locator(selector, has_text=re.compile(text)).first.wait_for(
        state="detached", timeout=PATIENCE
    )


async def test_it_works_below_a_prefix_over_https(site, browser):
    site.files.ensure()
    token = TokenStore(site.files.tokens).create("look", Role.READ)
    site.path.mkdir(exist_ok=True)
    config, port = site.path / "serve.toml", free_port()
    config.write_text("[names]\nenabled = false\n[api]\n")
    https = {"https": f"127.0.0.1:{port}", "https_prefix": "/lan"}
    async with browser(ignore_https_errors=True) as chrome:
        async with site.serving(config=config, **https) as running, site.joined("pc1", running):
            await chrome.do(log_in, f"https://127.0.0.1:{port}/lan/", token)
            await chrome.do(shown, ".host .name", "pc1")
            cookies = await chrome.do(lambda page: page.context.cookies())
            assert [(each["secure"], each["httpOnly"]) for each in cookies] == [(True, True)]
    assert {urlsplit(each).path.split("/")[1] for each in chrome.requests} == {"lan"}
    assert chrome.errors == []
