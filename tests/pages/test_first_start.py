"""From the printed link to a password, out, and in again."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.conftest import Faults
from tests.pages.sound import check_sound
from tests.product import Product

pytestmark = pytest.mark.slow
PASSWORD = "a heavy lorry on a long road"


@pytest.fixture
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product with login, started for the first time."""
    with Product(tmp_path_factory.mktemp("first")) as product:
        product.start(workers=1, no_login=False)
        yield product


def sign_in(page: Page, password: str) -> None:
    page.get_by_label("Username").fill("owner")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_the_printed_link_leads_to_a_password_and_the_password_back_in(
    locked: Product, page: Page, faults: Faults, new_context: Callable[..., BrowserContext]
) -> None:
    faults.expected = ("status of 400", "status of 410")
    printed = re.search(r"^Sign in: (http\S+)$", locked.printed(), re.MULTILINE)
    assert printed is not None
    link = printed[1]
    # A preview of the link, by a mail program say, does not use it up.
    for _ in range(2):
        assert locked.get(link.removeprefix(locked.url)).status == 200
    page.goto(link)
    check_sound(page)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Set a password")).to_be_visible()
    check_sound(page)
    page.get_by_label("New password", exact=True).fill("short")
    page.get_by_label("New password confirmation").fill("shorter")
    page.get_by_role("button", name="Set the password").click()
    expect(page.locator("#errors")).to_be_focused()
    assert "shorter" not in page.content()
    check_sound(page)
    for label in ("New password", "New password confirmation"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("heading", name="Start", level=1)).to_be_visible()
    expect(page.get_by_text("The password is set.")).to_be_visible()

    page.get_by_role("button", name="Sign out owner").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    check_sound(page)
    page.goto(f"{locked.url}/jobs")
    expect(page).to_have_url(f"{locked.url}/sign-in?next=/jobs")
    sign_in(page, "a wrong one")
    expect(page.locator("#errors")).to_be_focused()
    assert "a wrong one" not in page.content()
    check_sound(page)
    sign_in(page, PASSWORD)
    expect(page).to_have_url(f"{locked.url}/jobs")

    elsewhere = new_context().new_page()
    elsewhere.goto(link)
    elsewhere.get_by_role("button", name="Sign in").click()
    expect(elsewhere.get_by_role("heading", name="This link does not work any more")).to_be_visible()
    expect(elsewhere.get_by_text(".venv/bin/python manage.py sign_in_link")).to_be_visible()
    check_sound(elsewhere)
    elsewhere.goto(locked.manage("sign_in_link"))
    elsewhere.get_by_role("button", name="Sign in").click()
    expect(elsewhere.get_by_role("heading", name="Set a password")).to_be_visible()


def test_a_page_of_a_session_that_ended_says_so_and_leads_back(
    locked: Product, page: Page, faults: Faults
) -> None:
    faults.expected = ("status of 401",)
    page.goto(locked.manage("sign_in_link"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Not now").click()
    page.goto(f"{locked.url}/jobs")
    expect(page.locator("#link")).to_have_attribute("data-link", "live")
    page.context.clear_cookies()
    (web,) = locked.children("web")
    web.kill()
    expect(page.locator("#link")).to_have_attribute("data-link", "signed-out")
    expect(page.locator("#link").get_by_role("link")).to_have_attribute("href", "/sign-in?next=%2Fjobs")
