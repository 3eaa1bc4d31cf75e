"""Where the bytes of a tree are."""

from hypothesis import given
from hypothesis import strategies as some

from migration_app.runners.space import BOUNDS, MOST_FOLDERS, Space

_NAMES = some.lists(some.sampled_from("abcde"), min_size=1, max_size=6).map("/".join)


@given(some.dictionaries(_NAMES, some.integers(0, 2**40), max_size=60))
def test_folders_and_classes_hold_every_file_once(files: dict[str, int]) -> None:
    space = Space()
    for path, size in files.items():
        space.add(path, size)
    for rows in (space.folders(), space.classes()):
        assert sum(row["files"] for row in rows) == len(files)
        assert sum(row["size"] for row in rows) == sum(files.values())


def test_folder_that_holds_most_is_shown_by_what_it_holds() -> None:
    space = Space()
    space.add("index.php", 10)
    space.add("wp-content/index.php", 5)
    for year in (2024, 2025):
        space.add(f"wp-content/uploads/{year}/a.jpg", 1000)
    space.add("wp-includes/a.php", 100)
    found = [(row["path"], row["is_own"], row["size"]) for row in space.folders()]
    assert found == [
        ("wp-content/uploads/2024", False, 1000),
        ("wp-content/uploads/2025", False, 1000),
        ("wp-includes", False, 100),
        ("", True, 10),
        ("wp-content", True, 5),
    ]


def test_many_folders_are_summed_up_in_a_last_row() -> None:
    space = Space()
    for number in range(100):
        space.add(f"{number}/a", 100 - number)
    *shown, last = space.folders()
    assert len(shown) == MOST_FOLDERS
    assert (last["more"], last["files"]) == (90, 90)


def test_classes_end_where_they_say() -> None:
    space = Space()
    for size in (*BOUNDS, 2**30 + 1):
        space.add("a", size)
    assert [(row["up_to"], row["files"]) for row in space.classes()] == [
        *((bound, 1) for bound in BOUNDS),
        (None, 1),
    ]
    assert Space().classes() == Space().folders() == []
