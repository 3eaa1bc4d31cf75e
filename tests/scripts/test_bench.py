"""script/bench, run end to end with very small trees."""

import json
import subprocess
from typing import Any

import pytest

from tests.bench.goals import verdicts
from tests.bench.runner import eta_error
from tests.product import ROOT

SMALL = ("--quick", "--peer", "rsync", "--cell", "up-small-40ms", "--cell", "relay-small-0ms")


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
    done = bench("--cell", "sideways-small-0ms")
    assert done.returncode == 2
    assert "There is no cell sideways-small-0ms; they are up-small-0ms, down-small-0ms" in done.stderr


@pytest.mark.slow
def test_quick_run_gives_json_with_every_run_and_the_reason_where_there_is_none():
    done = bench(*SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["success"] is True
    assert found["proxy_mib_per_s"] > 0
    far, relay = sorted(found["cells"], key=lambda cell: -int(cell["rtt_ms"]))
    assert (far["cell"], far["files"], far["rtt_ms"]) == ("up-small-40ms", 15, 40)
    haulier, plain, rsync = far["peers"]
    assert [peer["peer"] for peer in far["peers"]] == ["haulier", "haulier, SFTP only", "rsync -a"]
    for peer in (haulier, plain, rsync):
        assert peer["min_s"] == peer["median_s"] == peer["max_s"] == peer["seconds"][0] > 0.04
    assert rsync["ratio"] == pytest.approx(haulier["median_s"] / rsync["median_s"], abs=0.02)
    assert haulier["worker_mib"] > 10
    assert haulier["web_mib"] > 10
    assert relay["peers"][2]["not_measured"] == "it does not copy from server to server"
    assert relay["peers"][2]["median_s"] is None
    assert {must["must"] for must in far["musts"]} == {"≤ 2 × rsync -a", "worker ≤ 300 MiB, web ≤ 200 MiB"}
    assert found["machine"]["haulier"]
    assert "up-small-40ms, run 1 of 1: rsync -a " in done.stderr


@pytest.mark.slow
def test_quick_run_prints_a_table():
    done = bench("--quick", "--peer", "rsync", "--peer", "cp", "--cell", "local-*-0ms")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0].startswith("local-")] == [
        "local-small-0ms",
        "local-large-0ms",
    ]
    assert sum(row[:2] == ["cp", "-a"] for row in rows) == 2
    assert "haulier ÷ it" in done.stdout


@pytest.mark.slow
def test_scan_is_timed_next_to_find_and_looked_at_for_being_linear():
    done = bench("--quick", "--peer", "find", "--cell", "localscan-*", "--json")
    assert done.returncode == 0, done.stderr
    many, most = json.loads(done.stdout)["cells"]
    assert (many["files"], most["files"]) == (300, 600)
    assert [peer["peer"] for peer in most["peers"] if peer["median_s"]] == ["haulier", "find -ls"]
    assert any(must["must"].startswith("linear (a file takes ") for must in most["musts"])


@pytest.mark.slow
def test_second_run_finds_the_copy_of_the_first():
    done = bench(
        "--quick", "--peer", "rsync", "--cell", "down-again-0ms", "--cell", "down-sums-0ms", "--json"
    )
    assert done.returncode == 0, done.stderr
    again, sums = json.loads(done.stdout)["cells"]
    assert all(peer["median_s"] for peer in [*again["peers"], *sums["peers"]])
    assert {must["must"] for must in again["musts"]} >= {"≤ 1 × rsync -a + 0.5 s"}


def test_error_of_an_eta_counts_from_a_fifth_to_nine_tenths_of_the_time():
    honest = [(at_s, 10.0 - at_s) for at_s in range(1, 10)]
    assert eta_error([(0.5, 99.0), *honest, (9.5, 40.0)], 10.0) == 0
    assert eta_error([(1.0, 0.0), (3.0, 0.0), *honest[3:]], 10.0) == 0
    assert eta_error([*honest[:3], (5.0, 0.0)], 10.0) == pytest.approx(0.5)
    assert eta_error([*honest, (5.0, 7.0)], 10.0) == pytest.approx(0.2)
    assert eta_error([], 10.0) is None
    assert eta_error([(0.5, 1.0)], 1.0) is None


def test_what_a_cell_must_come_to_is_told_from_its_figures():
    def peer(name: str, median_s: float, mib: int | None = None) -> dict[str, Any]:
        return {"peer": name, "median_s": median_s, "worker_mib": mib, "web_mib": mib}

    peers = [peer("haulier", 3.0, 250), peer("haulier, SFTP only", 1.9, 90), peer("rsync -a", 1.0)]
    cell = {"cell": "up-small-0ms", "files": 10, "peers": peers}
    assert {(must["peer"], must["must"]): must["is_met"] for must in verdicts(cell, [cell])} == {
        ("haulier", "≤ 1.1 × rsync -a + 0.5 s"): False,
        ("haulier, SFTP only", "≤ 1.5 × rsync -a + 0.5 s"): True,
        ("haulier", "worker ≤ 300 MiB, web ≤ 200 MiB"): False,
    }


@pytest.mark.slow
def test_copy_that_is_not_whole_is_told_as_failed_and_ends_with_1(tmp_path):
    forgetful = tmp_path / "cp"
    forgetful.write_text('#!/bin/sh\n/bin/cp "$@" && rm -r "$3/folder 1"\n')
    forgetful.chmod(0o755)
    command = f'PATH="{tmp_path}:$PATH" exec "{ROOT}/script/bench" --quick --peer cp --cell local-small-0ms'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "local-small-0ms, run 1 of 1: cp -a failed: the copy differs from its source in " in done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines() if line.lstrip().startswith("cp -a ")] == [
        "failed"
    ]


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
