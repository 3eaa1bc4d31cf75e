"""How much memory the product's processes take while something runs."""

import threading
from types import TracebackType
from typing import Self

import psutil

from tests.bench.cells import MIB
from tests.product import Product

LOOK_S = 0.1


class MemoryWatch:
    """Looks at every process of the product ten times a second; `peaks` has the most that one of a kind had, in MiB of
    resident memory, by `worker` and `web`."""

    def __init__(self, product: Product) -> None:
        self.peaks: dict[str, float] = {}
        self._processes = {kind: product.children(kind) for kind in ("worker", "web")}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_over.wait(LOOK_S)
            for kind, processes in self._processes.items():
                for process in processes:
                    try:
                        mib = process.memory_info().rss / MIB
                    except psutil.NoSuchProcess:
                        continue
                    self.peaks[kind] = max(self.peaks.get(kind, 0.0), mib)
