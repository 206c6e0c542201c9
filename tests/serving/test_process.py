"""The server as a process: its page in a browser, its end by SIGTERM, its log after kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from neurosearch.monitoring.traffic import read_log
from neurosearch.task.load import started
from tests.commands import forked_servers, run
from tests.report.test_page import BROWSERS

SHOP = ["data.n_products=500", "data.n_queries=30", "data.n_sessions=20", "retriever=bm25"]
SHOP += ["retriever.engine=bm25s"]

BASE = ["data.n_products=500", "data.n_queries=30", "data.n_sessions=20", "data.images=true"]
WORDS = (
    'task.systems={words: "retriever=bm25 retriever.engine=bm25s", '
    'both: "retriever=hybrid encoder@retriever.members.dense.encoder=hashing"}'
)


@dataclass
class Server:
    """A process, its address, and where it writes."""

    process: subprocess.Popen[bytes]
    url: str
    outputs: Path

    @property
    def log(self) -> Path:
        """The folder of its query log."""
        (folder,) = self.outputs.glob("jobs/adhoc/*/serving/log")
        return folder


@contextmanager
def served(outputs: Path, *words: str) -> Iterator[Server]:
    begun = started([*words, f"paths.outputs={outputs}"], outputs)
    with forked_servers(), begun as (url, process):
        yield Server(process, url, outputs)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("served"), *BASE, WORDS) as made:
        yield made


BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)


def until(page: Any, condition: str) -> None:
    """Wait for JavaScript to hold. The page's policy forbids Playwright's own way of waiting."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_the_page_in_a_browser(server: Server) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        held: list[Any] = []
        page.route("**/v1/systems", lambda route: held.append(route))
        page.goto(server.url)
        # By keyboard alone: type, search, go down, open a reason. A query that is sent before the
        # page knows the systems waits for them.
        page.keyboard.type("red mixer")
        page.keyboard.press("Enter")
        assert page.locator("#beside").is_hidden() and not page.locator("li").count()
        while not held:
            page.wait_for_timeout(20)
        held.pop().continue_()
        page.wait_for_selector("#beside:not([hidden])")
        page.wait_for_selector("li.product")
        lists = page.locator("#lists > section")
        assert lists.count() == 2 and lists.nth(0).locator("li").count() == 10
        wanted = httpx.post(f"{server.url}/v1/search", json={"query": "red mixer"}).json()
        shown = lists.nth(0).locator("li").evaluate_all("all => all.map(one => one.dataset.id)")
        assert shown == [one["product_id"] for one in wanted["results"]]
        assert page.locator("li img").first.evaluate("image => image.complete") is not None
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector(".why .part")
        assert "add up to the score" in page.locator(".why").first.inner_text()
        # A filter takes the others out; Escape brings them back.
        page.locator("#facets fieldset", has_text="colour").get_by_label("red").first.check()
        facts = "[...document.querySelectorAll('li .more')].map(one => one.textContent)"
        until(page, f"{facts}.every(text => text.includes('red'))")
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('#facets input:checked')")
        page.locator("section").first.get_by_text("More products").click()
        until(page, "document.querySelectorAll('section:first-child li.product').length > 10")
        # Nothing found, an error, and a telephone.
        page.fill("#text", "zzzzqqqq")
        page.select_option("#right", "")
        page.press("#text", "Enter")
        until(page, "document.querySelector('#status').textContent.includes('No product')")
        page.route("**/v1/search", lambda route: route.abort())
        page.press("#text", "Enter")
        page.wait_for_selector("#status.error")
        page.unroute("**/v1/search")
        page.fill("#text", "red mixer")
        page.press("#text", "Enter")
        page.wait_for_selector("li.product")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        browser.close()
    assert [fault for fault in faults if "ERR_FAILED" not in fault] == []


def test_kill_9_loses_no_more_of_the_log_than_its_buffer(server: Server) -> None:
    sent: list[str] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                try:
                    body: Any = {"query": f"red mixer {len(sent)}", "client_id": f"u{number}"}
                    answer = client.post(f"{server.url}/v1/search", json=body).json()
                except httpx.TransportError:
                    return
                sent.append(answer["request_id"])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2.5)
    before = len(sent)
    time.sleep(1.3)  # more than flush_seconds
    server.process.send_signal(signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    server.process.wait()
    with next(server.log.glob("queries-*")).open("ab") as handle:
        handle.write(b'{"application": "cut o')  # what a write that was cut off leaves
    logged = read_log(server.log)
    assert logged.height >= before > 10
    lines = next(server.log.glob("queries-*")).read_bytes().split(b"\n")[:-1]
    ids = {json.loads(line)["query_id"] for line in lines}
    assert set(sent[:before]) <= ids
    assert logged["client"].is_not_null().any() and logged.schema["top_score"] == pl.Float64


def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    with served(tmp_path, *SHOP) as server:
        assert list(tmp_path.glob("jobs/adhoc/*/serving/served/now/record.json"))
        busy = [f"task.server.port={server.url.rpartition(':')[2]}", f"paths.outputs={tmp_path}"]
        refused = run(["task=serve", *SHOP, *busy], dict(os.environ))
        assert refused.returncode == 1 and "Address already in use" in refused.stderr
        assert "Traceback" not in refused.stderr
        httpx.post(f"{server.url}/v1/search", json={"query": "red mixer"})
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0, (tmp_path / "server.log").read_text()
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    assert read_log(server.log).height == 1
    assert not list(tmp_path.glob("jobs/adhoc/*/serving/served"))
