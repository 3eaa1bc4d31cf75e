"""What the documentation says is true: its examples run, and its links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.product import ROOT, Product
from tests.trees import digest, small_tree

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_COMMAND = re.compile(r"manage\.py ([^`\n)]+)")
_ENDLESS = ("serve", "runserver")
_THERE = "sftp://web@new.example.org/var/www/site"
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
        if kind == "python":
            script = block.replace("127.0.0.1:8080", f"127.0.0.1:{locked_product.port}")
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, (block, done.stderr)
            answer = done.stdout
        elif kind == "sh":
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


def test_commands_of_readme_and_guides_do_what_they_are_shown_for(tmp_path, host):
    tree, key = small_tree(tmp_path / "site"), tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(host.private_key)
    product = Product(tmp_path / "product")
    product.migrate()
    moved, seen = [], set()
    found = [command for page in PAGES for command in _COMMAND.findall(page.read_text())]
    for command in dict.fromkeys(found):
        # Options in brackets may be given, so all of them are.
        words = shlex.split(re.sub(r"[][]", "", command))
        if words[0] in _ENDLESS or words == ["move"] or "--help" in words:
            continue
        target = f"{tmp_path}/copy {len(moved)}"
        there = f"sftp://{host.username}@{host.host}:{host.port}{quote(target)}"
        places = {"/srv/site": str(tree), "~/.ssh/id_ed25519": str(key), _THERE: there}
        words = [places.get(word, word) for word in words]
        if words[0] == "move":
            moved.append((target, words))
            words += ["--accept-new-host-key"]
            words += [] if "--destination-key" in words else ["--destination-key", str(key)]
        assert product.manage(*words)
        seen.add(words[0])
    assert seen == {"move", "sign_in_link", "create_token", "cleanup_jobs"}
    for target, words in moved:
        copied = digest(Path(target)) if Path(target).exists() else {}
        assert copied == ({} if "--dry-run" in words else digest(tree)), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
