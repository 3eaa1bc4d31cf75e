"""Takes the pictures of README.md and docs/ anew, of a real run: a WordPress moves from one SFTP server to another.

script/screenshots starts this with mounts and a network of its own, which takes root. In there /srv is empty,
`old.example.org` and `new.example.org` are names of this machine, and `web` is an account that OpenSSH lets in.
"""

import argparse
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.pages.conftest import ARGUMENTS, CHROMIUM
from tests.product import ROOT, Product, until
from tests.servers.openssh import OpenSshServer
from tests.trees import has_wordpress, lived_in_site

Json = dict[str, Any]

PICTURES = ROOT / "docs/pictures"
SCENE = Path("/srv")
OLD, NEW = SCENE / "www/example.org", SCENE / "sites/example.org"
USER, UID = "web", 2000
DESK, PHONE = (1280, 1060), (390, 844)
LIMIT_MB_S = 3
MOST_BYTES = 150_000


def set_the_scene() -> None:
    """An empty /srv, the names of two servers, and an account; they are gone with this process."""
    if ROOT.is_relative_to(SCENE):
        raise SystemExit(f"This checkout lies below {SCENE}, which is covered while the pictures are taken.")
    _run("ip", "link", "set", "lo", "up")
    _run("mount", "-t", "tmpfs", "tmpfs", str(SCENE))
    # Over the whole folder: a file that is mounted on another one goes when somebody puts a new one in its place.
    upper, work = SCENE / ".etc/upper", SCENE / ".etc/work"
    upper.mkdir(parents=True)
    work.mkdir()
    _run("mount", "-t", "overlay", "-o", f"lowerdir=/etc,upperdir={upper},workdir={work}", "overlay", "/etc")
    _append("/etc/hosts", "127.0.0.1 old.example.org new.example.org")
    _append("/etc/passwd", f"{USER}:*:{UID}:{UID}::{SCENE}:/bin/bash")


def _append(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


class Photographer:
    """Opens pages and takes their pictures."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url

    def take(
        self,
        name: str,
        address: str,
        *,
        size: tuple[int, int] = DESK,
        is_dark: bool = False,
        prepare: Callable[[Page], object] | None = None,
    ) -> None:
        """The picture of a page, once it is live and `prepare` is done with it."""
        scheme = "dark" if is_dark else "light"
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(f"{self._url}/{address}")
        expect(page.locator("#link")).to_have_text("Live")
        if prepare is not None:
            prepare(page)
        path = PICTURES / f"{name}.png"
        page.screenshot(path=path, animations="disabled")
        context.close()
        _run(
            "pngquant", "--quality=80-98", "--speed=1", "--strip", "--force", "--output", str(path), str(path)
        )
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        if path.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{path.name} is larger than {MOST_BYTES:,} bytes.")


def run_jobs(product: Product, server: OpenSshServer, photographer: Photographer) -> None:
    """A move from the first look to the proof, with a picture of each step."""

    def started(answer: Any) -> str:
        assert answer.status in (201, 202), answer
        return str(answer.body["id"])

    def connection(name: str, host: str, root: Path) -> str:
        conn = {"protocol": "sftp", "host": host, "username": USER, "ssh_key": server.private_key}
        number = started(product.post("/api/connections", conn | {"name": name, "root_path": str(root)}))
        tested = product.post(f"/api/connections/{number}/test").body
        assert tested["success"], tested
        return number

    old, new = connection("Old host", "old.example.org", OLD), connection("New host", "new.example.org", NEW)
    photographer.take("connection", f"connections/{old}", size=(1280, 820))
    source = {"connection": old, "root_path": str(OLD)}
    scan = started(product.post("/api/scan", {"server_config": source, "detect_cms": True}))
    product.wait_for(scan)

    def show_result(page: Page) -> None:
        page.locator("#cms-title").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('cms-title').scrollIntoView()")

    photographer.take("scan", f"jobs/{scan}", size=(1280, 1200), prepare=show_result)

    def fill_in(page: Page) -> None:
        destination = page.get_by_role("group", name="To")
        destination.get_by_label("Stored connection").check()
        destination.get_by_label("Connection", exact=True).select_option(label="New host")
        destination.get_by_label("Folder").fill(str(NEW))
        page.get_by_text("Options", exact=True).scroll_into_view_if_needed()
        page.evaluate("scrollTo(0, 0)")

    address = f"new/transfer?from={scan}&exclude=/wp-content/cache&exclude=/wp-content/debug.log"
    photographer.take("new-transfer", address, size=(1280, 1000), prepare=fill_in)
    request = {"source_config": source, "dest_config": {"connection": new, "root_path": str(NEW)}}
    request |= {"exclusions": ["/wp-content/cache", "/wp-content/debug.log"], "verify_after_transfer": True}
    transfer = started(product.post("/api/transfer", request | {"bandwidth_limit": LIMIT_MB_S}))
    until(lambda: (product.job(transfer).get("progress") or {}).get("percent_complete", 0) > 40)
    for name, size, is_dark in (
        ("live", DESK, False),
        ("live-dark", DESK, True),
        ("live-phone", PHONE, False),
    ):
        photographer.take(
            name,
            f"jobs/{transfer}",
            size=size,
            is_dark=is_dark,
            prepare=lambda page: page.wait_for_timeout(2500),
        )
    product.wait_for(transfer)
    proof = started(product.post(f"/api/sessions/{transfer}/verify"))
    product.wait_for(proof)
    photographer.take("verified", f"jobs/{proof}", size=(1280, 800))
    photographer.take("finished", f"jobs/{transfer}", size=(1280, 1120))
    # Once more: nothing is left to copy.
    product.wait_for(started(product.post("/api/transfer", request)))
    gone = {"connection": old, "root_path": "/srv/www/shop.example.org"}
    failing = started(product.post("/api/scan", {"server_config": gone}))
    product.wait_for(failing, "failed")
    photographer.take("history", "jobs", size=(1280, 640))


def main() -> None:
    """Parse the command line, set the scene, and take the pictures."""
    parser = argparse.ArgumentParser(prog="script/screenshots", description=__doc__)
    parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("Only root may make the names and accounts that the pictures show.")
    if not has_wordpress():
        raise SystemExit("There is no WordPress to move: script/test-data fetches it where apt-get is.")
    set_the_scene()
    lived_in_site(OLD)
    NEW.parent.mkdir(parents=True)
    for root in (OLD.parent, NEW.parent):
        for path in (root, *root.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
    PICTURES.mkdir(exist_ok=True)
    with (
        OpenSshServer(port=22) as server,
        Product(SCENE / "haulier") as product,
        sync_playwright() as playwright,
    ):
        product.start(workers=3)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        run_jobs(product, server, Photographer(browser, product.url))
        browser.close()


if __name__ == "__main__":
    main()
