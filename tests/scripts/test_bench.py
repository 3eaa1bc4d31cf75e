"""script/bench, run end to end with very small trees."""

import json
import subprocess
from typing import Any

import pytest

from tests.product import ROOT

SMALL = ("--quick", "--peer", "rsync", "--only", "small/up/40", "--only", "small/relay/0")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "script/bench", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_cell_that_is_none_is_answered_with_those_that_are():
    done = bench("--only", "small/sideways/0")
    assert done.returncode == 2
    assert "There is no cell small/sideways/0; they are small/up/0, small/down/0" in done.stderr


@pytest.mark.slow
def test_quick_run_gives_json_with_every_run_and_the_reason_where_there_is_none():
    done = bench(*SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["success"] is True
    assert found["proxy_mib_per_s"] > 0
    far, relay = sorted(found["cells"], key=lambda cell: -int(cell["rtt_ms"]))
    assert (far["cell"], far["files"], far["rtt_ms"]) == ("small/up/40", 15, 40)
    haulier, rsync = far["peers"]
    assert (haulier["peer"], rsync["peer"]) == ("haulier", "rsync -a")
    for peer in (haulier, rsync):
        assert peer["min_s"] == peer["median_s"] == peer["max_s"] == peer["seconds"][0] > 0.04
    assert rsync["ratio"] == pytest.approx(haulier["median_s"] / rsync["median_s"], abs=0.02)
    assert relay["peers"][1]["not_measured"] == "it does not copy from server to server"
    assert relay["peers"][1]["median_s"] is None
    assert "small/up/40, run 1 of 1: rsync -a " in done.stderr


@pytest.mark.slow
def test_quick_run_prints_a_table():
    done = bench("--quick", "--peer", "rsync", "--peer", "cp", "--only", "*/local/0")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if row and "/local/" in row[0]] == ["small/local/0", "large/local/0"]
    assert sum(row[:2] == ["cp", "-a"] for row in rows) == 2
    assert "haulier ÷ it" in done.stdout


@pytest.mark.slow
def test_copy_that_is_not_whole_is_told_as_failed_and_ends_with_1(tmp_path):
    forgetful = tmp_path / "cp"
    forgetful.write_text('#!/bin/sh\n/bin/cp "$@" && rm -r "$3/folder 1"\n')
    forgetful.chmod(0o755)
    command = f'PATH="{tmp_path}:$PATH" exec "{ROOT}/script/bench" --quick --peer cp --only small/local/0'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "small/local/0, run 1 of 1: cp -a failed: the copy differs from its source in " in done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines() if "cp -a " in line] == ["failed"]


@pytest.mark.slow
def test_latencies_are_measured():
    done = bench("--latency", "2", "--large-mib", "8", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["what"] for row in found["latencies"]] == [
        "submit → running",
        "pause, 1,000 small files",
        "pause, one large file",
    ]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in found["latencies"])
