"""Each page in a browser, with a job in each condition: sound, quiet, and of use without a script and a mouse."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from migration_app.pages import wording
from migration_app.pages.curve_view import CurveView
from migration_app.sizes import size_text
from sessions_app.curve import noted
from tests.pages.conftest import Faults, Yard
from tests.pages.sound import check_sound
from tests.pages.test_scenarios import live
from tests.product import ROOT, Product, until
from tests.trees import small_tree

pytestmark = pytest.mark.slow

_FILL = """
import django, json
django.setup()
from sessions_app import accounts
from tests.pages.gallery import Gallery
gallery = Gallery(accounts.owner())
jobs = {name: str(job.pk) for name, job in gallery.fill().items()}
print(json.dumps(gallery.connections() | gallery.schedules() | jobs))
"""

PAGES = {
    "start": "",
    "new scan": "new/scan",
    "new transfer": "new/transfer",
    "connections": "connections",
    "add a connection": "connections/new",
    "connection": "connections/{tested}",
    "connection not tested": "connections/{untested}",
    "unknown key": "connections/{unknown-key}",
    "changed key": "connections/{changed-key}",
    "edit a connection": "connections/{changed-key}/edit",
    "delete a connection": "connections/{tested}/delete",
    "folders": "connections/{here}/browse",
    "folder to choose": "connections/{here}/browse?for=new-transfer&side=dest_config",
    "transfer from a connection": (
        "new/transfer?new-transfer-source_config-protocol=stored&new-transfer-source_config-connection={tested}"
    ),
    "schedules": "schedules",
    "new schedule": "schedules/new/transfer",
    "job as schedule": "schedules/new/scan?from={scan-completed}",
    "edit a schedule": "schedules/{nightly}/edit",
    "delete a schedule": "schedules/{failing}/delete",
    "jobs": "jobs",
    "delete finished": "jobs/delete-finished",
    "retention": "jobs/retention",
    "not found": "nowhere",
    "log": "jobs/{transfer-failed}/log",
    "hostile log": "jobs/{hostile}/log",
    "files": "jobs/{transfer-failed}/files?q=wp-content",
    "cancel": "jobs/{transfer-running}/cancel",
    "change": "jobs/{transfer-running}/change",
    "nothing to cancel": "jobs/{scan-failed}/cancel",
    "delete": "jobs/{transfer-failed}/delete",
    **{
        name: f"jobs/{{{name}}}"
        for name in (
            *("scan-completed", "scan-with-failures", "scan-of-nothing", "scan-failed", "scan-cancelled"),
            *("scan-pending", "scan-running", "transfer-completed", "transfer-failed", "transfer-cancelled"),
            *(
                "transfer-with-failures",
                "transfer-waiting",
                "transfer-comparing",
                "transfer-running",
                "transfer-paused",
                "hostile",
            ),
        )
    },
}


@dataclass
class Shown:
    """The web process alone, over jobs that stand still."""

    url: str
    ids: dict[str, str]

    def address(self, name: str) -> str:
        """Of a page in PAGES."""
        return f"{self.url}/{PAGES[name].format(**self.ids)}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    product = Product(tmp_path_factory.mktemp("shown"))
    product.migrate()
    command = [sys.executable, "manage.py", "serve", "--only", "web", "--no-login"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=product.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            until(lambda: process.stdout.readline() == "Ready.\n")  # type: ignore[union-attr]
            yield Shown(product.url, json.loads(product.python("-c", _FILL)))
        finally:
            process.terminate()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound_and_live_and_asks_no_other_host(
    shown: Shown, page: Page, faults: Faults, name: str
) -> None:
    faults.expected = ("status of 404",) if name == "not found" else ()
    page.goto(shown.address(name))
    live(page)
    check_sound(page)


def test_page_is_live_by_itself_where_there_are_no_shared_workers(
    shown: Shown, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context()
    context.add_init_script("delete window.SharedWorker")
    page = context.new_page()
    with page.expect_request("**/api/events"):
        page.goto(shown.address("transfer-running"))
    live(page)


def test_form_with_errors_is_sound_and_its_summary_has_the_focus(
    shown: Shown, page: Page, faults: Faults
) -> None:
    faults.expected = ("status of 400",)
    page.goto(shown.address("new transfer"))
    source = page.get_by_role("group", name="From")
    source.get_by_label("SFTP server").check()
    source.get_by_label("Host", exact=True).fill("no host!")
    source.get_by_label("Password", exact=True).fill("hunter2")
    page.get_by_role("button", name="Start the transfer").click()
    expect(page.locator("#errors")).to_be_focused()
    assert "hunter2" not in page.content()
    # As long as the fingerprint of a host key.
    page.locator(".field .error, #errors a").evaluate_all(
        "all => all.forEach((one) => one.append(` SHA256:${'M'.repeat(43)}`))"
    )
    check_sound(page)
    page.locator("#errors").get_by_role("link", name="From – Host").click()
    expect(source.get_by_label("Host", exact=True)).to_be_focused()


@pytest.mark.parametrize(
    "path", ["", "sessions_app/job/", "sessions_app/job/{hostile}/change/", "sessions_app/jobevent/"]
)
def test_admin_is_quiet_under_the_policy(shown: Shown, page: Page, path: str) -> None:
    page.goto(f"{shown.url}/admin/{path.format(**shown.ids)}")
    expect(page.locator("#site-name")).to_be_visible()


def test_start_form_can_be_walked_by_keyboard(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/new/scan")
    stops: list[str] = []
    where = """() => {
      const found = document.activeElement, style = getComputedStyle(found);
      const name = found.labels?.[0]?.textContent || found.textContent;
      return [name.trim(), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
    }"""

    def tab() -> str:
        page.keyboard.press("Tab")
        name, has_outline = page.evaluate(where)
        assert has_outline, name
        stops.append(name)
        return str(name)

    assert tab() == "Skip to the content"
    page.keyboard.press("Enter")
    until(lambda: tab() == "This machine")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Host", exact=True)).to_be_visible()
    stops.clear()
    until(lambda: tab() == "Start the scan")
    wanted = ["Host", "Port", "User", "Password", "Use a private key", "Go through a jump host"]
    wanted += ["Folder", "Test the connection", "Options", "Start the scan"]
    assert stops == wanted
    for _ in range(7):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(where)[0] == "Password"


def test_hostile_names_stay_harmless_and_marked_in_the_browser(shown: Shown, page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran: {dialog.message}"))
    for name in ("hostile", "start", "jobs", "hostile log"):
        page.goto(shown.address(name))
        live(page)
        text = page.locator("body").inner_text()
        assert "<script>alert(1)</script>" in text
        assert "U+202E" in text
        assert "\u202e" not in text
    page.goto(shown.address("hostile"))
    expect(page.locator("h1 .codepoint")).to_have_text(["U+202E", "U+000A"])
    assert "‹U+202E›" in page.title()


def test_scripts_and_server_word_numbers_and_names_alike(shown: Shown, page: Page) -> None:
    page.goto(shown.address("start"))
    sizes = [0, 1, 1023, 1024, 1536, 10 * 1024, 10**6, 123_456_789, 5 * 10**12]
    seconds = [0.2, 1, 42, 59.6, 60, 200, 3599, 3900, 21_600, 86_399, 180_000, 900_000]
    names = ["plain", "a\nb", "\u202egpj.exe", "\u00adé", "\ufeff", "𝒳\U000e0041"]
    said = page.evaluate(
        """async ([sizes, seconds, names]) => {
          const { size, duration, timeLeft, plain, marked } = await import("/static/wording.js");
          return [sizes.map(size), seconds.map(duration), seconds.map(timeLeft), names.map(plain),
                  names.map((name) => marked(name).textContent)];
        }""",
        [sizes, seconds, names],
    )
    assert said == [
        [size_text(size) for size in sizes],
        [wording.duration_text(second) for second in seconds],
        [wording.time_left_text(second) for second in seconds],
        [wording.plain_text(name) for name in names],
        [wording.plain_text(name).replace("‹", "").replace("›", "") for name in names],
    ]


def test_log_shows_the_chosen_level_without_a_script(
    shown: Shown, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(java_script_enabled=False).new_page()
    page.goto(shown.address("hostile"))
    rows = [page.locator(f"#log li.{kind}").first for kind in ("info", "warning", "error")]
    levels = {"All": (1, 1, 1), "Warnings and errors": (0, 1, 1), "Errors": (0, 0, 1)}
    for level, seen in levels.items():
        page.get_by_label(level, exact=True).check()
        assert [row.is_visible() for row in rows] == [bool(one) for one in seen]


def test_script_goes_on_with_the_curve_as_the_server_would(shown: Shown, page: Page) -> None:
    page.goto(shown.address("transfer-running"))
    drawn = page.locator("#curve").get_attribute("data-rates") or ""
    step_s, rates = 1.0, json.loads(drawn)
    samples = [(199.5, 1e6), (203.0, 2e6), (239.9, 3e6), (240.0, 4e6), (242.5, 5e6)]
    for at_s, rate in samples:
        step_s, rates = noted(step_s, rates, at_s, rate)
    page.evaluate(
        """async (samples) => {
          const { noteRate, paintCurve } = await import("/static/curve.js");
          samples.forEach(([at, rate]) => noteRate(at, rate));
          paintCurve();
        }""",
        samples,
    )
    expect(page.locator("#curve path")).to_have_attribute("d", CurveView(step_s, rates, False).path)


def test_without_a_script_a_scan_starts_and_a_job_is_cancelled(
    yard: Yard, new_context: Callable[..., BrowserContext]
) -> None:
    product = yard.product
    page = new_context(java_script_enabled=False).new_page()
    page.goto(f"{product.url}/new/scan")
    page.get_by_label("Folder", exact=True).fill(str(small_tree(yard.folder / "site")))
    page.get_by_role("button", name="Start the scan").click()
    job_id = page.url.rpartition("/")[2]
    product.wait_for(job_id)
    page.get_by_role("link", name="Load it again").click()
    expect(page.locator("#job [data-part=badge]")).to_have_text("Completed")
    yard.link.bytes_per_s = 2_000
    slow = yard.scan(yard.wide_tree())
    page.goto(product.url)
    page.locator("#strip").get_by_role("link").first.click()
    page.get_by_role("link", name="Cancel…").click()
    expect(page.get_by_role("heading", name="Cancel this job?")).to_be_visible()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#job [data-part=badge]")).to_have_text("Cancelled")
    assert product.status(slow) == "cancelled"


def test_two_quick_presses_of_a_button_make_one_job(product: Product, page: Page, yard: Yard) -> None:
    page.goto(f"{product.url}/new/scan")
    page.get_by_label("Folder", exact=True).fill(str(small_tree(yard.folder / "site")))
    page.get_by_role("button", name="Start the scan").dblclick()
    page.wait_for_url("**/jobs/*")
    assert len(product.get("/api/sessions").body) == 1


def test_printed_report_is_sound(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/api/sessions/{shown.ids['transfer-failed']}/report?format=html")
    expect(page.get_by_role("heading", name="Failures")).to_be_visible()
    check_sound(page)
