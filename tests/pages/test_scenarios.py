"""What a person counts on, against the running product: a job outlives the page that started it, and is found again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.conftest import Faults, Yard
from tests.product import Product, until
from tests.servers.slow_link import SlowLink
from tests.trees import small_tree

pytestmark = pytest.mark.slow


def live(page: Page) -> None:
    """Wait until the page says that it is live."""
    expect(page.locator("#link")).to_have_attribute("data-link", "live")


def seqs(page: Page) -> list[int]:
    """Numbers of the events in the page's log."""
    found = page.locator("#log li").evaluate_all("rows => rows.map(row => Number(row.dataset.seq))")
    return [int(number) for number in found]


def last_seq(product: Product, job_id: str) -> int:
    """Number of a finished job's last event, by its stream."""
    with product.read_sse(f"/api/sessions/{job_id}/events?after=0") as stream:
        for frame in stream:
            if frame.event in ("complete", "failed", "cancelled"):
                return int(frame.data["seq"])
    raise AssertionError("the stream broke off")


def bar(page: Page) -> float:
    """Where the bar stands."""
    return float(page.locator("#bar").evaluate("bar => bar.value"))


def test_scan_runs_to_completed_and_the_api_says_so(product: Product, tmp_path: Path) -> None:
    root = small_tree(tmp_path / "site", folders=3, files=4)
    body = {"server_config": {"protocol": "local", "root_path": str(root)}}
    events = []
    with product.read_sse("/api/scan/stream", "POST", body) as stream:
        job_id = stream.headers["X-Job-ID"]
        for frame in stream:
            events.append(frame.event)
            if frame.event in ("complete", "error"):
                break
    assert events[0] == "job_created"
    assert events[-1] == "complete"
    job = product.job(job_id)
    assert job["status"] == "completed"
    assert job["scan_result"]["statistics"]["total_files"] == 12


def test_refresh_during_a_scan_leaves_it_running_and_finds_it_again(yard: Yard, page: Page) -> None:
    product = yard.product
    yard.link.bytes_per_s = 8_000
    job_id = yard.scan(yard.wide_tree())
    page.goto(f"{product.url}/jobs/{job_id}")
    until(lambda: product.job(job_id)["progress"]["dirs_scanned"] > 0)
    page.reload()
    assert product.status(job_id) == "running"
    assert [job["id"] for job in product.get("/api/sessions/active").body] == [job_id]
    expect(page.locator("#job [data-part=badge]")).to_have_text("Running")
    live(page)
    folders = page.locator('[data-number="folders"] dd')
    before = folders.inner_text()
    expect(folders).not_to_have_text(before)
    yard.link.bytes_per_s = None
    expect(page.locator("#job [data-part=badge]")).to_have_text("Completed")
    expect(page.get_by_role("heading", name="What there is")).to_be_visible()
    assert product.job(job_id)["scan_result"]["statistics"]["total_files"] == 300


def test_refresh_during_a_transfer_reconnects_to_the_moving_bar(yard: Yard, page: Page) -> None:
    product = yard.product
    job_id = yard.transfer(yard.big_tree())
    page.goto(f"{product.url}/jobs/{job_id}")
    expect(page.locator("#percent")).to_have_text(re.compile(r"[1-9]\d*\.\d %"))
    before = bar(page)
    line = page.locator("#curve path")
    expect(line).to_have_attribute("d", re.compile(r"M.*L"))
    page.reload()
    assert product.status(job_id) == "running"
    assert bar(page) >= before
    drawn, curve = bar(page), line.get_attribute("d") or ""
    assert "L" in curve
    live(page)
    until(lambda: bar(page) > drawn)
    expect(line).not_to_have_attribute("d", curve)
    yard.link.bytes_per_s = None
    expect(page.locator("#job [data-part=badge]")).to_have_text("Completed")
    expect(page.locator("#percent")).to_have_text("100 %")
    assert product.job(job_id)["transfer_result"]["files_transferred"] == 60


def test_active_sessions_are_counted(yard: Yard) -> None:
    product = yard.product
    yard.link.bytes_per_s = 2_000
    root = yard.wide_tree()
    first = yard.scan(root)
    assert [job["id"] for job in product.get("/api/sessions/active").body] == [first]
    second = yard.scan(root)
    active = product.get("/api/sessions/active").body
    assert {job["id"] for job in active} == {first, second}
    assert len(active) == 2


def test_deleting_the_finished_sessions_leaves_the_active_ones(yard: Yard) -> None:
    product = yard.product
    root = small_tree(yard.folder / "site")
    body = {"server_config": {"protocol": "local", "root_path": str(root)}}
    finished = [product.post("/api/scan", body).body["id"] for _ in range(3)]
    for job_id in finished:
        product.wait_for(job_id)
    yard.link.bytes_per_s = 2_000
    active = yard.scan(yard.wide_tree())
    assert product.delete("/api/sessions").body == {"deleted": 3}
    assert [job["id"] for job in product.get("/api/sessions").body] == [active]
    assert product.status(active) in ("pending", "running")


def test_strip_leads_from_every_page_to_the_job_as_it_stands_and_on_without_a_gap(
    yard: Yard, page: Page, faults: Faults
) -> None:
    product = yard.product
    faults.expected = ("status of 404",)
    yard.link.bytes_per_s = 2_000
    job_id = yard.failing_transfer(150)
    other = product.post(
        "/api/scan", {"server_config": {"protocol": "local", "root_path": str(small_tree(yard.folder / "s"))}}
    ).body["id"]
    product.wait_for(other)
    for path in ("", "new/scan", "new/transfer", "jobs", "jobs/delete-finished", f"jobs/{other}", "nowhere"):
        page.goto(f"{product.url}/{path}")
        expect(page.locator("#strip").get_by_role("link").first).to_have_attribute("href", f"/jobs/{job_id}")
    page.goto(product.url)
    live(page)
    yard.link.bytes_per_s = 6_000
    until(lambda: product.job(job_id)["progress"]["errors_count"])
    yard.link.bytes_per_s = 1_000
    page.locator("#strip").get_by_role("link").first.click()
    page.wait_for_url(f"**/jobs/{job_id}")
    drawn = seqs(page)
    assert drawn == list(range(1, len(drawn) + 1))
    live(page)
    yard.link.bytes_per_s = None
    product.wait_for(job_id, "failed")
    last = last_seq(product, job_id)
    expect(page.locator(f'#log li[data-seq="{last}"]')).to_be_visible()
    assert len(drawn) < last
    # The page shows the last 200 of what was there when it was drawn, and everything since.
    found = seqs(page)
    assert found == list(range(found[0], last + 1))
    assert found[0] == drawn[0]
    expect(page).to_have_title(re.compile(r"^✕ 150 failed · "))


def test_page_reconnects_by_itself_after_the_web_process_was_killed(
    yard: Yard, page: Page, faults: Faults
) -> None:
    faults.expected = ("Failed to load resource",)
    product = yard.product
    yard.link.bytes_per_s = 6_000
    job_id = yard.failing_transfer(150)
    page.goto(f"{product.url}/jobs/{job_id}")
    live(page)
    for _ in range(2):
        at = seqs(page)[-1]
        (web,) = product.children("web")
        web.kill()
        until(lambda: seqs(page)[-1] > at)  # noqa: B023
        live(page)
    yard.link.bytes_per_s = None
    expect(page.locator("#job [data-part=badge]")).to_have_text("Failed")
    last = last_seq(product, job_id)
    expect(page.locator(f'#log li[data-seq="{last}"]')).to_be_visible()
    assert seqs(page) == list(range(1, last + 1))
    fresh = page.context.new_page()
    fresh.goto(page.url)
    expect(page.locator("#percent")).to_have_text(fresh.locator("#percent").inner_text())


def test_transfer_is_watched_live_up_to_completed(yard: Yard, page: Page) -> None:
    product = yard.product
    job_id = yard.transfer(yard.big_tree(files=6))
    page.goto(f"{product.url}/jobs/{job_id}")
    icon = page.locator("#favicon")
    expect(icon).to_have_attribute("href", re.compile("running.svg$"))
    expect(page).to_have_title(re.compile(r"^[1-9]\d*% .* · Haulier$"))
    expect(page.locator("#strip [data-job] [data-percent]")).to_have_text(re.compile(r"[1-9]\d* %"))
    yard.link.bytes_per_s = None
    expect(page.locator("#job [data-part=badge]")).to_have_text("Completed")
    expect(icon).to_have_attribute("href", re.compile("completed.svg$"))
    expect(page).to_have_title(re.compile("^✓ "))
    expect(page.get_by_text("All copied: 6 files")).to_be_visible()
    expect(page.locator('[data-number="files"] dd')).to_have_text("6 of 6")
    expect(page.locator("#strip [data-badge]")).to_have_text("Completed")
    expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
    assert bar(page) == 100
    assert product.job(job_id)["transfer_result"]["files_transferred"] == 6


def test_failed_files_are_retried_and_another_tab_sees_it_live(
    yard: Yard, new_context: Callable[..., BrowserContext]
) -> None:
    product = yard.product
    site, copy = small_tree(yard.folder / "site", folders=2, files=5), yard.folder / "copy"
    (copy / "folder 1").mkdir(parents=True)
    for number in range(3):
        (copy / f"folder 1/file {number}.txt").mkdir()
    body = {
        "source_config": {"protocol": "local", "root_path": str(site)},
        "dest_config": {"protocol": "local", "root_path": str(copy)},
    }
    job_id = product.post("/api/transfer", body).body["id"]
    product.wait_for(job_id, "failed")
    context = new_context()
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{product.url}/jobs/{job_id}")
        live(tab)
        expect(tab.locator("#failures li")).to_have_count(3)
        expect(tab).to_have_title(re.compile(r"^✕ 3 failed · "))
    for number in range(3):
        (copy / f"folder 1/file {number}.txt").rmdir()
    tabs[0].get_by_role("button", name="Retry the 3 failed files").click()
    for tab in tabs:
        tab.bring_to_front()
        expect(tab.locator("#job [data-part=badge]")).to_have_text("Completed")
        expect(tab.get_by_text("All copied: 10 files")).to_be_visible()
        expect(tab.locator("#failures")).to_be_hidden()
        expect(tab).to_have_title(re.compile("^✓ "))
        expect(tab.locator('[data-number="files"] dd')).to_have_text("10 of 10")
        expect(tab.locator('[data-number="failed"] dd')).to_have_text("0")
        expect(tab.get_by_role("button", name="Retry")).to_have_count(0)
        assert bar(tab) == 100
        last = len(product.get(f"/api/sessions/{job_id}/log").body)
        expect(tab.locator(f'#log li[data-seq="{last}"]')).to_be_visible()
        assert seqs(tab) == list(range(1, last + 1))


def test_eight_tabs_are_live_over_one_stream(yard: Yard, new_context: Callable[..., BrowserContext]) -> None:
    product = yard.product
    streams: list[bytes] = []

    def note(data: bytes) -> None:
        if data.startswith(b"GET /api/events"):
            streams.append(data)

    with SlowLink(product.port, on_sent=note) as front:
        job_id = yard.transfer(yard.big_tree())
        context = new_context()
        tabs = [context.new_page() for _ in range(8)]
        for tab in tabs:
            tab.goto(f"http://127.0.0.1:{front.port}/jobs/{job_id}")
        for tab in tabs:
            live(tab)
            tab.bring_to_front()
            before = tab.locator("#percent").inner_text()
            expect(tab.locator("#percent")).not_to_have_text(before)
        assert len(streams) == 1
        yard.link.bytes_per_s = None
        for tab in tabs:
            expect(tab.locator("#job [data-part=badge]")).to_have_text("Completed")
        assert len(streams) == 1
        for tab in tabs:
            # Each still fetches its job's result, for which the way must be there.
            tab.close()


def test_silent_server_makes_a_page_say_from_when_its_numbers_are_until_it_speaks_again(
    yard: Yard, page: Page, faults: Faults
) -> None:
    faults.expected = ("Failed to load resource",)
    job_id = yard.transfer(yard.big_tree())
    page.goto(f"{yard.product.url}/jobs/{job_id}")
    live(page)
    rate = page.locator('[data-number="rate"] dd')
    expect(rate).to_have_text(re.compile("/s$"))
    (web,) = yard.product.children("web")
    web.suspend()
    try:
        expect(page.locator("#link")).to_have_attribute("data-link", "offline")
        expect(page.locator("#stale")).to_have_text(re.compile(r"^as of \d\d:\d\d:\d\d$"))
        expect(rate).to_have_text("–")
        expect(page.locator('[data-number="left"] dd')).to_have_text("–")
        assert bar(page) < 100
    finally:
        web.resume()
    live(page)
    expect(page.locator("#stale")).to_be_hidden()
    expect(rate).to_have_text(re.compile("/s$"))
