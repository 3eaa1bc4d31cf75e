"""How the rows of a manifest are cut into shards."""

from migration_app.runners.shards import SHARD_BYTES, SHARD_ITEMS, Cutter


def test_shards_are_full_by_number_or_by_size_and_hold_every_row_once():
    cutter = Cutter()
    rows = [(number, 10) for number in range(1, 2 * SHARD_ITEMS, 2)]
    rows += [(rows[-1][0] + 5, SHARD_BYTES), (rows[-1][0] + 9, 1)]
    for number, size in rows:
        # As a cursor keeps it.
        shards, cutter = cutter.shards, Cutter(**cutter.as_json())
        cutter.shards = shards
        cutter.add(number, size)
    cutter.close()
    cutter.close()
    last = 2 * SHARD_ITEMS - 1
    assert cutter.shards == [
        {"first": 1, "last": last},
        {"first": last + 5, "last": last + 5},
        {"first": last + 9, "last": last + 9},
    ]
