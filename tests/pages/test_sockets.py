"""WebSockets as a browser opens them: with the cookie, from our pages and from those of others."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext

from tests.pages.conftest import Faults
from tests.product import Product

pytestmark = pytest.mark.slow

_OPEN = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("refused");
})"""


def test_our_own_pages_open_a_socket_and_those_of_another_port_do_not(
    served: Product,
    new_context: Callable[..., BrowserContext],
    faults: Faults,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    faults.expected = ("WebSocket connection to",)
    with Product(tmp_path_factory.mktemp("locked")) as locked:
        locked.start(workers=1, no_login=False)
        context = new_context(bypass_csp=True)
        # Cookies know no ports: those of one are sent to all.
        context.add_cookies([{"name": "haulier_session", "value": locked.session(), "url": locked.url}])
        page = context.new_page()
        answers = {}
        for place in (locked, served):
            page.goto(f"{place.url}/")
            for address in (locked, served):
                url = f"ws://127.0.0.1:{address.port}/ws/events"
                answers[place.port, address.port] = page.evaluate(_OPEN, url)
    assert answers == {
        (place.port, address.port): "open" if place is address else "refused"
        for place in (locked, served)
        for address in (locked, served)
    }


def test_policy_of_our_pages_lets_them_open_sockets(
    served: Product, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context().new_page()
    page.goto(f"{served.url}/")
    assert page.evaluate(_OPEN, f"ws://127.0.0.1:{served.port}/ws/events") == "open"
