"""The page in a browser, at a real switch under traffic."""

import re
from urllib.parse import urlsplit

import trio

from vswitch.api.roles import Role
from vswitch.api.tokens import TokenStore
from vswitch.frames.ethernet import parse_mac

PATIENCE = 20_000  # ms: far beyond what anything here takes on a loaded machine
BROADCAST = b"\xff" * 6
SECTIONS = (
    *("overview", "ports", "members", "macs", "services"),
    *("rules", "events", "drops", "capture", "settings"),
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


def faults(page):
    """What axe-core finds that keeps people out, as short texts."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page)["violations"]
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

        async with site.joined("pc2", running) as other, trio.open_nursery() as nursery:
            await chrome.do(shown, ".host .name", "pc2")
            nursery.start_soon(talk, one, other)
            await chrome.do(shown, ".host .rates", r"↑ [1-9].*↓ [1-9]")
            for theme in ("dark", "light"):
                for section in SECTIONS:
                    await chrome.do(go, section)
                    await chrome.do(
                        lambda page: page.wait_for_selector("main h1", state="attached")
                    )
                    assert await chrome.do(faults) == [], (theme, section)
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
            for width in (390, 2560):
                await chrome.do(
                    lambda page, width: page.set_viewport_size({"width": width, "height": 800}),
                    width,
                )
                for section in SECTIONS:
                    await chrome.do(go, section)
                    assert not await chrome.do(too_wide), (width, section)
            nursery.cancel_scope.cancel()

        store.revoke("look")
        await chrome.do(shown, "[role=alert]", "已退出")
        assert await chrome.do(lambda page: page.locator(".host").count()) == 0
    assert {urlsplit(each).netloc for each in chrome.requests} == {urlsplit(where).netloc}
    assert chrome.errors == []


def _picture(page, path):
    page.screenshot(path=path)
