"""Wrong settings are told in one sentence, before anything starts."""

import os
import stat
import subprocess
import sys

import pytest

from tests.product import ROOT


def manage(tmp_path, *arguments, **environment):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HAULIER_", "DATABASE_"))
    }
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=kept | {"HAULIER_DATA_DIR": str(tmp_path / "data")} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAULIER_RETENTION", "999999d"),
        ("HAULIER_RETENTION", "scan=999999999999d"),
        ("DATABASE_URL", "banana"),
        ("HAULIER_DATA_DIR", "/proc/x"),
        ("HAULIER_DATA_DIR", str(ROOT / "README.md")),
        ("HAULIER_WORKERS", "2.7"),
        ("HAULIER_QUEUE", "banana"),
        ("HAULIER_RATE_LIMITS", "banana"),
    ],
)
def test_wrong_variable_is_named_in_one_sentence(tmp_path, name, value):
    done = manage(tmp_path, "check", **{name: value})
    assert done.returncode != 0
    assert done.stderr.startswith("Haulier cannot start: ")
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_token_before_the_database_is_there_says_what_to_run(tmp_path):
    done = manage(tmp_path, "create_token")
    assert done.returncode != 0
    assert "manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_data_directory_is_for_its_owner_alone(tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    assert manage(tmp_path, "migrate", "-v0").returncode == 0
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for path in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.slow
def test_too_long_a_duration_is_refused(tmp_path):
    done = manage(tmp_path, "cleanup_jobs", "--older-than", "999999d")
    assert done.returncode == 2
    assert "24h or 90d" in done.stderr
