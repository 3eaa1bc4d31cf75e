"""The commands of `script/`, run as a person runs them: from any folder, with right and wrong arguments."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.product import ROOT, Product
from tests.trees import wordpress_tree


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HAULIER_DATA_DIR": str(folder / "data")} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bootstrap_does_nothing_when_all_is_there(tmp_path):
    stamp = ROOT / ".venv/requirements.txt.installed"
    before = stamp.stat().st_mtime_ns
    done = run(ROOT / "script/bootstrap", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before


def test_bootstrap_without_python_says_what_is_needed(tmp_path):
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    (checkout / "script").mkdir(parents=True)
    (checkout / "script/bootstrap").write_bytes((ROOT / "script/bootstrap").read_bytes())
    (checkout / "requirements.txt").touch()
    programs.mkdir()
    for name in ("bash", "cat", "cmp", "dirname"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (programs / name).symlink_to(found)
    done = run("/bin/bash", checkout / "script/bootstrap", folder=tmp_path, PATH=str(programs))
    assert done.returncode == 1
    assert "Haulier needs Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("name", ["bootstrap", "server", "test", "check", "bench", "killtest", "screenshots"])
def test_every_script_has_a_help_that_says_what_it_does(name, tmp_path):
    done = run(ROOT / "script" / name, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "usage" in done.stdout.lower()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--bind", "nonsense"], {}, "--bind must look like 127.0.0.1:8080"),
        (["--bind", "0.0.0.0:8080", "--no-login"], {}, "--no-login works on a loopback address only"),
        (["--workers", "0"], {}, "--workers must be between 1 and 64"),
        ([], {"HAULIER_BIND": "nonsense"}, "HAULIER_BIND must look like 127.0.0.1:8080"),
        ([], {"HAULIER_LEASE_S": "soon"}, "HAULIER_LEASE_S must be a number"),
    ],
)
def test_wrong_option_or_variable_is_answered_by_one_sentence(arguments, environment, sentence, tmp_path):
    done = run(ROOT / "script/server", *arguments, folder=tmp_path, **environment)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_server_becomes_the_supervisor_and_ends_with_all_its_children(tmp_path):
    with Product(tmp_path) as product:
        product.start(workers=1, script=True)
        assert product.process is not None
        assert "serve" in psutil.Process(product.process.pid).cmdline()
        family = product.children()
        assert len(product.children("web")) == 1
        assert len(product.children("worker")) == 2
        assert product.get("/api/sessions").body == []
        product.stop()
        assert product.process.returncode == 0
        assert not any(child.is_running() for child in family)


@pytest.mark.slow
def test_first_start_prints_a_sign_in_link_and_asks_strangers_to_sign_in(tmp_path):
    with Product(tmp_path) as product:
        product.start(workers=1, no_login=False, script=True)
        assert f"Sign in: {product.url}/sign-in/link/" in product.printed()
        assert product.get("/api/sessions").status == 401
        token = {"Authorization": f"Bearer {product.token()}"}
        assert product.get("/api/sessions", token).body == []


@pytest.mark.slow
def test_port_in_use_is_answered_by_one_sentence(tmp_path):
    with Product(tmp_path) as product:
        product.start(workers=1)
        other = run(ROOT / "script/server", "--bind", f"127.0.0.1:{product.port}", folder=tmp_path)
    assert other.returncode == 1
    assert f"Something else listens on 127.0.0.1:{product.port}" in other.stderr


@pytest.mark.slow
def test_skipped_test_fails_in_ci_and_nowhere_else(tmp_path):
    (tmp_path / "test_skipping.py").write_text("import pytest\ndef test_it(): pytest.skip('not today')\n")
    without = [option for name in ("cacheprovider", "django", "xdist") for option in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skips", "--rootdir=.", *without]
    here = run(*command, folder=tmp_path, CI="", PYTHONPATH=str(ROOT))
    there = run(*command, folder=tmp_path, CI="true", PYTHONPATH=str(ROOT))
    assert here.returncode == 0, here.stdout
    assert there.returncode == 1
    assert "Skipped, which no test may be in CI: Skipped: not today" in there.stdout


@pytest.mark.slow
def test_wordpress_tree_is_whole_and_has_no_links(tmp_path):
    root = wordpress_tree(tmp_path / "site")
    paths = list(root.rglob("*"))
    assert not any(path.is_symlink() for path in paths)
    assert sum(path.is_file() for path in paths) > 2000
    assert (root / "wp-includes/js/underscore.min.js").stat().st_size > 0
