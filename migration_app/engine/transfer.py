"""Copies files, folders and links from one storage to another, many at a time."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from migration_app.engine.beginnings import Beginning, prove_beginnings
from migration_app.engine.flow import Flow
from migration_app.engine.items import Done, Item, UnderWay, Way
from migration_app.engine.pace import Pace
from migration_app.storages.base import Storage

__all__ = ["Beginning", "Done", "Item", "Pace", "TransferBatch", "Way", "transfer_items"]

BATCH_S = 0.2


@dataclass(slots=True)
class TransferBatch:
    """What ended since the last batch, and how the rest stands."""

    done: list[Done] = field(default_factory=list)
    bytes_in_flight: int = 0
    """Bytes that the destination has taken of files that are not finished."""
    current_file: bytes = b""
    under_way: list[UnderWay] = field(default_factory=list)
    """Some of the files that are under way."""
    partial: dict[int, int] = field(default_factory=dict)
    """How much is there of large files that are not finished, by number: to go on there, give it to the next call."""
    notes: list[str] = field(default_factory=list)
    """Why files do not go another way than alone any more, in sentences."""
    beginnings: list[Beginning] = field(default_factory=list)
    """What was found of files that were given as partial."""


async def transfer_items(
    source: Storage,
    destination: Storage,
    items: Sequence[Item],
    *,
    folders_known: Collection[bytes] = (),
    pace: Pace | None = None,
    at_once: int | None = None,
    ways: Collection[Way] = tuple(Way),
    partial: Mapping[int, int] | None = None,
    proved: dict[int, int] | None = None,
    keeps: Callable[[], bool] = lambda: False,
    on_stop: Callable[[TransferBatch], None] = lambda _: None,
) -> AsyncGenerator[TransferBatch, None]:
    """Copy `items`, both storages connected. A batch comes at least every 0.25 s.

    Folders above an item are made where they are not in `folders_known` (paths that are folders at the destination
    already; the root is taken to be there). `pace` limits the bytes a second, `at_once` how many small files are
    under way; None: as many as keep both sides busy. Of `ways` other than alone, those are taken that both sides
    make possible. A file in `partial`, of which so many bytes are there already,
    goes on after them when they are proved to be the source's; calls that share `proved` prove nothing twice.
    `keeps` is asked at the end whether what is there of large files is to stay.
    When it is stopped, what ended meanwhile goes to `on_stop`, as nobody takes another batch.
    Raises ConnectionLost after giving what was done; what was in flight then is in no batch.
    """
    partial, proved = partial or {}, {} if proved is None else proved
    beginnings: list[Beginning] = []
    async for found in prove_beginnings(source, destination, items, partial, proved):
        if isinstance(found, Beginning):
            beginnings.append(found)
        else:
            yield TransferBatch([], sum(partial.values()), found.entry.path, partial=dict(partial))
    if beginnings:
        starts = {beginning.number: beginning.bytes for beginning in beginnings}
        items = [replace(item, start=starts.get(item.number, 0)) for item in items]
        yield TransferBatch(
            beginnings=beginnings, partial={number: start for number, start in starts.items() if start}
        )
    flow = Flow(
        source,
        destination,
        items,
        folders_known=folders_known,
        pace=pace or Pace(),
        at_once=at_once,
        ways=ways,
        keeps=keeps,
    )
    is_over = False
    try:
        while (done := await flow.advance(BATCH_S)) is not None:
            yield _batch(flow, done)
        is_over = True
    finally:
        await flow.stop()
        if not is_over:
            on_stop(_batch(flow, flow.take_done()))
    if flow.lost is not None:
        raise flow.lost


def _batch(flow: Flow, done: list[Done]) -> TransferBatch:
    return TransferBatch(
        done,
        flow.bytes_in_flight,
        flow.current_file,
        flow.files_under_way(),
        flow.partial,
        flow.take_notes(),
    )
