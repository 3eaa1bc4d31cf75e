"""What holds on every page, light and dark, on a desk and on a phone."""

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # no types
from playwright.sync_api import Page

_AXE = Axe()
_WIDTHS = (1280, 390)

_CHECKS = """() => {
  const text = (element) => element.textContent.trim(), wrong = [];
  const named = (element) => element.getAttribute("aria-label") || [...element.labels].some(text);
  for (const badge of document.querySelectorAll(".badge")) if (!text(badge)) wrong.push("a badge without a word");
  for (const bar of document.querySelectorAll("progress, meter")) if (!named(bar)) wrong.push("a bar without a label");
  const h1 = [...document.querySelectorAll("h1")].map(text);
  if (h1.length !== 1) wrong.push(`${h1.length} headings of level 1`);
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) wrong.push(`${wide} px too wide`);
  for (const element of document.querySelectorAll("[style], body style, script:not([src])")) {
    wrong.push(`inline: ${element.outerHTML}`);
  }
  return wrong;
}"""


def check_sound(page: Page) -> None:
    """Raise AssertionError for what is wrong on a page as it stands."""
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(_CHECKS) == [], f"{page.url} at {width} px"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = _AXE.run(page).response["violations"]
            serious = [
                (rule["id"], [node["html"][:200] for node in rule["nodes"]])
                for rule in found
                if rule["impact"] in ("serious", "critical")
            ]
            assert not serious, f"{page.url} at {width} px, {scheme}: {serious}"
