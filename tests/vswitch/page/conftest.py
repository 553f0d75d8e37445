"""A headless Chromium, driven from a thread of its own: Playwright's calls all come from one."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
import trio


class Browser:
    """What a test does at the page. Notes what the page asks for, and what it says."""

    def __init__(self, thread):
        self._thread = thread
        self.requests = []  # addresses
        self.errors = []  # of scripts, and what the policy of the page has refused
        self.page = None

    async def do(self, step, *args):
        """`step(page, *args)`, in the thread."""
        return await trio.to_thread.run_sync(
            lambda: self._thread.submit(step, self.page, *args).result()
        )

    def open(self, chromium, **looks):
        """A window of its own, with an empty memory."""
        context = chromium.new_context(locale="en", **looks)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        return context

    def _console(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)


@pytest.fixture
def browser():
    """`async with browser() as page: await page.do(...)`."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("missing: chromium")

    @asynccontextmanager
    async def opened(**looks):
        with ThreadPoolExecutor(1) as thread:
            window = Browser(thread)
            begun = []

            def begin(_):
                begun.append(sync_api.sync_playwright().start())
                options = ["--no-sandbox"] if os.geteuid() == 0 else []
                begun.append(begun[0].chromium.launch(executable_path=program, args=options))
                window.open(begun[1], **looks)

            def end(_):
                if len(begun) > 1:
                    begun[1].close()
                if begun:
                    begun[0].stop()

            try:
                await window.do(begin)
                yield window
            finally:
                with trio.CancelScope(shield=True):
                    await window.do(end)

    return opened
