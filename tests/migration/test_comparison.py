"""Where the preparation of a transfer stands, as its cursor keeps it."""

import json

import pytest

from migration_app.engine.plan import OpenFolder
from migration_app.runners.comparison import Cut


@pytest.mark.parametrize("folders", [None, [], [OpenFolder(b"a/b", False), OpenFolder(b"c\xff", True)]])
def test_cursor_keeps_which_folders_are_open_and_whether_the_root_was_compared(folders):
    cut = Cut(open=folders, next=7, has_root=True)
    assert Cut.read(json.loads(json.dumps(cut.as_json()))) == cut


def test_preparation_without_a_cursor_begins_with_the_root():
    assert Cut.read(None).open is None
