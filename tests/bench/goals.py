"""What a cell must come to: ratios to other tools within one run, and memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.bench.peers import PLAIN, PRODUCT

Json = dict[str, Any]

WORKER_MIB = 300
WEB_MIB = 200
MOST_GROWTH = 1.25
"""How many times as long a file may take in the largest tree as in one of a tenth: linear, with what a run varies."""
BEST = "the best"


@dataclass(frozen=True)
class Must:
    """The product's median is at most `times` that of a peer and `plus_s`."""

    cells: str
    product: str
    peer: str
    times: float
    plus_s: float = 0.0

    @property
    def text(self) -> str:
        """As in `≤ 1.5 × rsync -a + 0.5 s`, or `≥ 4 × as fast as rclone tuned`."""
        if self.times < 0.5:
            return f"{1 / self.times:.0f} × as fast as {self.peer}"
        return f"≤ {self.times:g} × {self.peer}" + (f" + {self.plus_s:g} s" if self.plus_s else "")


MUSTS = (
    *(Must(f"{way}-small-0ms", PRODUCT, "rsync -a", 1.1, 0.5) for way in ("up", "down")),
    *(Must(f"{way}-small-0ms", PLAIN, "rsync -a", 1.5, 0.5) for way in ("up", "down")),
    *(Must("relay-small-0ms", product, "rclone tuned", 1 / 4) for product in (PRODUCT, PLAIN)),
    Must("local-small-0ms", PRODUCT, "cp -a", 3, 0.5),
    *(Must("*-small-40ms", product, "rsync -a", 2) for product in (PRODUCT, PLAIN)),
    *(Must("*-small-40ms", product, "rclone tuned", 1 / 20) for product in (PRODUCT, PLAIN)),
    *(Must("*-again-*", product, "rsync -a", 1, 0.5) for product in (PRODUCT, PLAIN)),
    *(Must(f"{way}-large-0ms", PRODUCT, BEST, 1.1) for way in ("up", "down", "relay")),
)


def verdicts(cell: Json, cells: list[Json]) -> Iterator[Json]:
    """What a measured cell must come to, whose row says it, and whether it does; nothing where a peer has no figures.

    `cell` and `cells` are those of the report.
    """
    peers = {peer["peer"]: peer for peer in cell["peers"]}
    products = (PRODUCT, PLAIN)
    medians = {
        name: peer["median_s"] for name, peer in peers.items() if peer["median_s"] and name not in products
    }
    if medians:
        medians[BEST] = min(medians.values())
    for must in MUSTS:
        mine = peers.get(must.product, {}).get("median_s")
        if mine and must.peer in medians and fnmatchcase(cell["cell"], must.cells):
            limit_s = must.times * medians[must.peer] + must.plus_s
            yield _verdict(must.product, must.text, mine <= limit_s)
    measured = [
        peer for name in products if (peer := peers.get(name)) and peer["worker_mib"] and peer["web_mib"]
    ]
    if measured:
        worker, web = (max(peer[f"{kind}_mib"] for peer in measured) for kind in ("worker", "web"))
        text = f"worker ≤ {WORKER_MIB} MiB, web ≤ {WEB_MIB} MiB"
        yield _verdict(PRODUCT, text, worker <= WORKER_MIB and web <= WEB_MIB)
    fewer = next((one for one in cells if one["cell"] == cell["cell"].replace("-most-", "-many-")), cell)
    growth = _growth(fewer, cell) if fewer is not cell else None
    if growth is not None:
        yield _verdict(PRODUCT, f"linear (a file takes {growth:.2f} × the time)", growth <= MOST_GROWTH)


def _verdict(product: str, text: str, is_met: bool) -> Json:
    return {"peer": product, "must": text, "is_met": is_met}


def _growth(fewer: Json, more: Json) -> float | None:
    """How many times as long a file takes where there are more."""
    took = [cell["peers"][0]["median_s"] for cell in (fewer, more)]
    if not all(took):
        return None
    return float(took[1] / more["files"] / (took[0] / fewer["files"]))
