"""What the documentation says is true: its examples run, and its links lead somewhere."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import ROOT, Product
from tests.trees import small_tree

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def locked_product(tmp_path: Path) -> Iterator[Product]:
    """One that asks for a token, as it does by default."""
    with Product(tmp_path / "product") as found:
        found.start(no_login=False)
        yield found


def is_like(shown, found) -> bool:
    """Whether an answer has all that an example shows of it."""
    if shown == "…":
        return found not in (None, "")
    if isinstance(shown, dict):
        return all(name in found and is_like(inner, found[name]) for name, inner in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(is_like, shown, found))
    return shown == found


def test_examples_of_the_api_give_the_answers_that_they_show(locked_product, host, tmp_path):
    tree = small_tree(tmp_path / "site")
    (tmp_path / "www").mkdir()
    credentials = {"port": host.port, "username": host.username, "ssh_key": host.private_key}
    there = f'"host": "{host.host}", {json.dumps(credentials)[1:-1]}'
    environment = {"TOKEN": locked_product.token(), "JOB": "", "PATH": "/usr/bin:/bin"}
    functions, answer, shown = "", "", 0
    for kind, block in _BLOCK.findall((ROOT / "docs/api.md").read_text()):
        if kind == "sh":
            script = block.replace("http://127.0.0.1:8080", locked_product.url)
            script = script.replace(
                '"host": "new.example.org", "username": "web", "password": "secret"', there
            )
            script = script.replace("/srv/site", str(tree)).replace("/srv/copy", str(tmp_path / "copy"))
            script = script.replace('"/var/www', f'"{tmp_path}/www')
            functions = script.splitlines()[0] if script.startswith("api()") else functions
            done = subprocess.run(
                ["bash", "-euc", f"{functions}\n{script}"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, (block, done.stderr)
            answer = done.stdout
            assert "Traceback" not in answer
        elif kind == "json":
            found = json.loads(answer)
            assert is_like(json.loads(block), found), (block, found)
            environment["JOB"] = found.get("id", environment["JOB"])
            shown += 1
        elif kind == "text":
            lines = iter(answer.splitlines())
            for line in block.splitlines():
                assert any(found.startswith(line.rstrip()) for found in lines), (line, answer)
            shown += 1
    assert shown > 8
    assert (tmp_path / "copy/folder 0/file 0.txt").read_bytes() == (tree / "folder 0/file 0.txt").read_bytes()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
