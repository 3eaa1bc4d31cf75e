"""What the options of a transfer make of a comparison."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from migration_app.engine.choices import Choices, Conflict, Selection, numbered_paths
from migration_app.engine.plan import Action, Step, compare_trees
from migration_app.storages.base import Capabilities, Kind
from migration_app.storages.errors import NameRefused
from tests.engine.memory_storage import MTIME, MemoryStorage
from tests.engine.trees import EVERYTHING, copy, errors, items_of

OLD, NEW = MTIME - 1, MTIME + 1


def steps(source: MemoryStorage, destination: MemoryStorage, choices: Choices) -> dict[bytes, Step]:
    """Compare two trees; what to do, by path."""

    async def go() -> dict[bytes, Step]:
        batches = compare_trees(source, destination, EVERYTHING, choices=choices)
        return {step.entry.path: step async for batch in batches for step in batch.steps}

    return asyncio.run(go())


def one_file(there_mtime: int, **here: object) -> tuple[MemoryStorage, MemoryStorage]:
    """`a.txt` on both sides, with different contents."""
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"a.txt", b"here", **here)
    destination.add(b"a.txt", b"at the destination", mtime=there_mtime)
    return source, destination


@pytest.mark.parametrize(
    ("conflict", "there_mtime", "action"),
    [
        (Conflict.OVERWRITE, NEW, Action.UPDATE),
        (Conflict.SKIP, OLD, Action.SKIP),
        (Conflict.NEWER, OLD, Action.UPDATE),
        (Conflict.NEWER, MTIME, Action.SKIP),
        (Conflict.NEWER, NEW, Action.SKIP),
        (Conflict.RENAME, OLD, Action.CREATE),
    ],
)
def test_different_file_is_handled_as_the_conflict_says(
    conflict: Conflict, there_mtime: int, action: Action
) -> None:
    step = steps(*one_file(there_mtime), Choices(conflict=conflict))[b"a.txt"]
    assert step.action is action
    assert bool(step.reason) == (action is Action.SKIP)
    assert step.place == (b"a (2).txt" if conflict is Conflict.RENAME else b"")


@pytest.mark.parametrize("conflict", list(Conflict))
def test_what_is_missing_is_made_and_what_is_equal_is_left_with_every_conflict(conflict: Conflict) -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    for tree in (source, destination):
        tree.add(b"folder/equal", b"1")
    source.add(b"folder/new", b"1")
    found = steps(source, destination, Choices(conflict=conflict))
    assert found[b"folder/equal"] == Step(source.entry(b"folder/equal"), Action.SKIP)
    assert found[b"folder/new"] == Step(source.entry(b"folder/new"), Action.CREATE)


@pytest.mark.parametrize("conflict", list(Conflict))
def test_folder_where_a_file_should_be_is_a_conflict_always(conflict: Conflict) -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"a", b"1", mtime=NEW)
    destination.add(b"a/b", b"1")
    assert steps(source, destination, Choices(conflict=conflict))[b"a"].action is Action.CONFLICT


def test_link_is_kept_where_its_file_would_be_renamed() -> None:
    source, destination = one_file(OLD, kind=Kind.LINK, target=b"x")
    step = steps(source, destination, Choices(conflict=Conflict.RENAME))[b"a.txt"]
    assert (step.action, step.place) == (Action.SKIP, b"")
    assert "link" in step.reason


def test_free_name_is_one_that_neither_side_has() -> None:
    source, destination = one_file(OLD)
    source.add(b"a (2).txt", b"here")
    destination.add(b"a (3).txt", b"another", mtime=OLD)
    found = steps(source, destination, Choices(conflict=Conflict.RENAME))
    assert found[b"a.txt"].place == b"a (4).txt"
    assert found[b"a (2).txt"] == Step(source.entry(b"a (2).txt"), Action.CREATE)


def test_no_two_files_get_the_same_free_name() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    long = b"n" * 253
    for name in (long + b"aa", long + b"bb"):
        source.add(name, b"here")
        destination.add(name, b"at the destination")
    found = steps(source, destination, Choices(conflict=Conflict.RENAME))
    assert {step.place for step in found.values()} == {b"n" * 251 + b" (2)", b"n" * 251 + b" (3)"}


def test_file_that_was_renamed_before_is_not_copied_again() -> None:
    source, destination = one_file(OLD)
    destination.add(b"a (2).txt", b"another", mtime=OLD)
    destination.add(b"a (3).txt", b"here")
    step = steps(source, destination, Choices(conflict=Conflict.RENAME))[b"a.txt"]
    assert step == Step(source.entry(b"a.txt"), Action.SKIP, place=b"a (3).txt")


def test_name_that_the_destination_could_not_read_is_not_free() -> None:
    source, destination = one_file(OLD)
    listing = destination.list_folder

    def with_problem(path: bytes, answer: object) -> None:
        listing(
            path,
            lambda found: (
                found.problems.append((b"a (2).txt", NameRefused("No."))),  # type: ignore[union-attr]
                answer(found),  # type: ignore[operator]
            ),
        )

    destination.list_folder = with_problem  # type: ignore[method-assign, assignment]
    step = steps(source, destination, Choices(conflict=Conflict.RENAME))[b"a.txt"]
    assert step.place == b"a (3).txt"


@pytest.mark.parametrize(
    ("path", "numbered"),
    [
        (b"name.ext", b"name (2).ext"),
        (b"a/b/name.tar.gz", b"a/b/name.tar (2).gz"),
        (b"a.b/name", b"a.b/name (2)"),
        (b".htaccess", b".htaccess (2)"),
        (b"x" * 255, b"x" * 251 + b" (2)"),
        (b"x" * 251 + b".txt", b"x" * 247 + b" (2).txt"),
        ("ü".encode() * 127, "ü".encode() * 125 + b" (2)"),
        (b"a." + b"x" * 253, b"a." + b"x" * 249 + b" (2)"),
    ],
)
def test_numbered_path_keeps_folder_and_extension_and_fits(path: bytes, numbered: bytes) -> None:
    second, third = itertools.islice(numbered_paths(path), 2)
    assert second == numbered
    assert third == numbered.replace(b" (2)", b" (3)")


def test_renamed_file_is_put_under_its_place_only() -> None:
    source, destination = one_file(OLD)
    source.add(b"b.txt", b"b")
    plain, other = items_of([source.entry(b"b.txt"), source.entry(b"a.txt")])
    placed = type(other)(other.number, other.entry, other.temp_name, b"a (2).txt")
    assert errors(asyncio.run(copy(source, destination, [plain, placed]))) == {}
    contents = {path: bytes(node.content) for path, node in destination.nodes.items() if path}
    assert contents == {b"a.txt": b"at the destination", b"a (2).txt": b"here", b"b.txt": b"b"}


def test_files_over_the_limit_are_left_out_with_the_reason() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"at", b"1" * 1000)
    source.add(b"over", b"1" * 1001)
    source.add(b"there", b"1" * 1001)
    destination.add(b"there", b"1" * 1001)
    found = steps(source, destination, Choices(largest=0.001 * 10**6))
    assert found[b"at"].action is Action.CREATE
    assert (found[b"over"].action, found[b"over"].reason) == (Action.SKIP, "Larger than 0.001 MB.")
    assert (found[b"there"].action, found[b"there"].reason) == (Action.SKIP, "")


def test_only_wanted_paths_and_the_way_to_them_are_looked_at() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    for path in (b"a/b/c/file", b"a/b/other", b"a/whole/deep/file", b"left/file", b"top", b"file/x"):
        source.add(path, b"1")
    choices = Choices(selection=Selection([b"a/b/c/file", b"a/whole", b"top", b"missing", b"top/below"]))
    assert set(steps(source, destination, choices)) == {
        b"a",
        b"a/b",
        b"a/b/c",
        b"a/b/c/file",
        b"a/whole",
        b"a/whole/deep",
        b"a/whole/deep/file",
        b"top",
    }
    assert ("list_folder", b"left") not in source.calls


def test_file_is_not_taken_for_what_was_wanted_below_it() -> None:
    selection = Selection([b"a/b"])
    assert selection.takes(b"a", True)
    assert not selection.takes(b"a", False)
    assert not selection.takes(b"ab", True)
    assert Selection().takes(b"anything", False)


@pytest.mark.parametrize(
    ("choices", "action"),
    [
        (Choices(), Action.UPDATE),
        (Choices(conflict=Conflict.RENAME), Action.SKIP),
        (Choices(by_size=True), Action.SKIP),
    ],
)
def test_mode_alone_makes_a_file_another_one_where_it_can_be_set(choices: Choices, action: Action) -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"a.txt", b"1", mode=0o600)
    destination.add(b"a.txt", b"1", mode=0o644)
    assert steps(source, destination, choices)[b"a.txt"].action is action


@pytest.mark.parametrize(("content", "action"), [(b"here", Action.SKIP), (b"longer", Action.UPDATE)])
def test_size_alone_counts_where_the_destination_keeps_no_times(content: bytes, action: Action) -> None:
    source, destination = one_file(OLD)
    destination.add(b"a.txt", content, mtime=OLD)
    assert steps(source, destination, Choices(by_size=True))[b"a.txt"].action is action


def test_newer_is_judged_by_what_the_destination_can_hold() -> None:
    source, destination = one_file(0, mtime=-5)
    destination.capabilities = Capabilities(earliest_mtime=0)
    step = steps(source, destination, Choices(conflict=Conflict.NEWER))[b"a.txt"]
    assert step.action is Action.SKIP


BY_CONTENT = Choices(by_content=True)


@pytest.mark.parametrize(
    ("conflict", "there", "is_kept", "is_settled"),
    [
        (Conflict.OVERWRITE, {"mtime": MTIME}, False, True),
        (Conflict.OVERWRITE, {"mtime": NEW}, False, False),
        (Conflict.OVERWRITE, {"mtime": MTIME, "mode": 0o600}, False, False),
        (Conflict.SKIP, {"mtime": NEW}, True, True),
        (Conflict.NEWER, {"mtime": OLD}, False, False),
        (Conflict.NEWER, {"mtime": MTIME}, True, True),
        (Conflict.NEWER, {"mtime": NEW}, True, True),
        (Conflict.RENAME, {"mtime": OLD}, False, True),
    ],
)
def test_files_of_equal_size_are_left_to_their_contents(
    conflict: Conflict, there: dict[str, object], is_kept: bool, is_settled: bool
) -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"folder/a.txt", b"1")
    destination.add(b"folder/a.txt", b"2", **there)
    found = steps(source, destination, replace(BY_CONTENT, conflict=conflict))
    assert found[b"folder"].action is Action.SKIP
    step = found[b"folder/a.txt"]
    assert (step.action, bool(step.reason), step.is_settled) == (Action.COMPARE, is_kept, is_settled)
    assert step.place == (b"folder/a (2).txt" if conflict is Conflict.RENAME else b"")


def test_what_cannot_be_equal_or_is_not_copied_is_not_compared_by_content() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    for tree, size, target in ((source, 5, b"x"), (destination, 6, b"x")):
        tree.add(b"size", b"1" * size)
        tree.add(b"large", b"1" * 20)
        tree.add(b"link", kind=Kind.LINK, target=target)
    source.add(b"new", b"1")
    destination.add(b"other", b"1")
    found = steps(source, destination, replace(BY_CONTENT, largest=10))
    assert {path: step.action for path, step in found.items()} == {
        b"size": Action.UPDATE,
        b"large": Action.SKIP,
        b"link": Action.SKIP,
        b"new": Action.CREATE,
    }
    assert found[b"large"].reason == "Larger than 1e-05 MB."


def test_one_that_lies_beside_already_is_known_by_size_and_time_with_rename() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"a.txt", b"1")
    destination.add(b"a.txt", b"2", mtime=OLD)
    destination.add(b"a (2).txt", b"1")
    step = steps(source, destination, replace(BY_CONTENT, conflict=Conflict.RENAME))[b"a.txt"]
    assert step == Step(source.entry(b"a.txt"), Action.SKIP, place=b"a (2).txt")


def test_where_no_times_are_kept_contents_are_compared_and_no_times_are_set() -> None:
    source, destination = one_file(0)
    destination.add(b"a.txt", b"HERE", mtime=5)
    step = steps(source, destination, replace(BY_CONTENT, by_size=True))[b"a.txt"]
    assert (step.action, step.is_settled) == (Action.COMPARE, True)
