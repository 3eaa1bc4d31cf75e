"""How the rows of a manifest are cut into shards."""

from migration_app.runners.shards import FIRST_ITEMS, SHARD_BYTES, SHARD_ITEMS, Cutter


def test_first_shards_are_smaller_so_that_workers_wait_less():
    cutter = Cutter()
    for number in range(1, 5 * SHARD_ITEMS):
        cutter.add(number, 1)
    cutter.close()
    sizes = [shard["last"] - shard["first"] + 1 for shard in cutter.shards]
    assert sizes[:2] == [FIRST_ITEMS, FIRST_ITEMS + 1]
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]
    assert (max(sizes), sum(sizes)) == (SHARD_ITEMS, 5 * SHARD_ITEMS - 1)


def test_shards_are_full_by_number_or_by_size_and_hold_every_row_once():
    cutter = Cutter()
    start = SHARD_ITEMS
    rows = [(number, 10) for number in range(start, start + 2 * SHARD_ITEMS - 1, 2)]
    rows += [(rows[-1][0] + 5, SHARD_BYTES), (rows[-1][0] + 9, 1)]
    for number, size in rows:
        # As a cursor keeps it.
        shards, cutter = cutter.shards, Cutter(**cutter.as_json())
        cutter.shards = shards
        cutter.add(number, size)
    cutter.close()
    cutter.close()
    last = start + 2 * (SHARD_ITEMS - 1)
    assert cutter.shards == [
        {"first": start, "last": last},
        {"first": last + 5, "last": last + 5},
        {"first": last + 9, "last": last + 9},
    ]
