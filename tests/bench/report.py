"""What was measured, as JSON for programs and as a table for people."""

import os
import platform
import shutil
import subprocess
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.cells import MIB
from tests.bench.goals import verdicts
from tests.bench.peers import PLAIN, PRODUCT, RCLONE, RCLONE_TUNED
from tests.bench.runner import Findings, Measured, Runs
from tests.product import ROOT

Json = dict[str, Any]


def as_json(found: Findings, options: Namespace) -> Json:
    """Everything, with the single runs."""
    cells = [_cell(measured) for measured in found.cells]
    for cell in cells:
        cell["musts"] = list(verdicts(cell, cells))
    return {
        "machine": _machine(options) | {"loads": [round(load, 2) for load in found.loads]},
        "loopback_mib_per_s": found.loopback and round(found.loopback),
        "proxy_mib_per_s": found.proxied and round(found.proxied),
        "workers": options.workers,
        "rclone_tuned": list(RCLONE_TUNED),
        "cells": cells,
        "success": not found.has_failed,
    }


def _cell(measured: Measured) -> Json:
    return {
        "cell": measured.cell.name,
        "tree": measured.cell.tree,
        "way": measured.cell.way,
        "rtt_ms": measured.cell.rtt_ms,
        "files": measured.files,
        "size_bytes": measured.size_bytes,
        "peers": [_peer(measured, runs) for runs in measured.runs],
    }


def _peer(measured: Measured, runs: Runs) -> Json:
    mine, its = measured.runs[0].median_s, runs.median_s
    return {
        "peer": runs.peer,
        "not_measured": runs.reason or None,
        "seconds": [round(second, 3) for second in runs.seconds],
        "median_s": its and round(its, 3),
        "min_s": round(min(runs.seconds), 3) if runs.seconds else None,
        "max_s": round(max(runs.seconds), 3) if runs.seconds else None,
        "ratio": round(mine / its, 2) if mine and its else None,
        "worker_mib": round(runs.peaks["worker"]) if "worker" in runs.peaks else None,
        "web_mib": round(runs.peaks["web"]) if "web" in runs.peaks else None,
        "eta_error": round(max(runs.eta_errors), 3) if runs.eta_errors else None,
        "errors": runs.errors,
    }


def as_table(found: Json) -> str:
    """For people, from the JSON."""
    lines = [f"{name:>10}: {_words(value)}" for name, value in found["machine"].items()]
    if found["proxy_mib_per_s"]:
        lines.append(
            f"{'40 ms':>10}: a proxy on loopback that passes {found['proxy_mib_per_s']:,} MiB/s "
            f"(without it {found['loopback_mib_per_s']:,})"
        )
    lines += ["", _HEAD]
    for cell in found["cells"]:
        what = f"{cell['files']:,} f. {cell['size_bytes'] / MIB:,.0f} MiB"
        first = f"{cell['cell']:<19}{what:<20}"
        for peer in cell["peers"]:
            if peer["not_measured"]:
                continue
            lines.append(f"{first}{peer['peer']:<20}{_figures(peer)}{_memory(peer)}".rstrip())
            first = " " * 39
        for must in cell["musts"]:
            met = "yes" if must["is_met"] else "NO "
            lines.append(f"{' ' * 39}{met} {must['must']}" + (f" ({PLAIN})" if must["peer"] == PLAIN else ""))
    return "\n".join(lines)


_HEAD = (
    f"{'cell':<19}{'what':<20}{'tool':<20}{'median s':>9}{'min':>8}{'max':>8}"
    f"{f'{PRODUCT} ÷ it':>14}{'worker MiB':>12}{'web MiB':>9}{'ETA off':>9}"
)


def _figures(peer: Json) -> str:
    if peer["errors"]:
        return f"{'failed':>9}   {peer['errors'][0]}"
    ratio = "" if peer["peer"] == PRODUCT or peer["ratio"] is None else f"{peer['ratio']:.2f}"
    return f"{peer['median_s']:>9.2f}{peer['min_s']:>8.2f}{peer['max_s']:>8.2f}{ratio:>14}"


def _memory(peer: Json) -> str:
    if peer["worker_mib"] is None or peer["errors"]:
        return ""
    eta = "" if peer["eta_error"] is None else f"{peer['eta_error']:.0%}"
    return f"{peer['worker_mib']:>12,}{peer['web_mib'] or 0:>9,}{eta:>9}"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _machine(options: Namespace) -> Json:
    found: Json = {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "asyncssh": version("asyncssh"),
        "openssh": _first_line("ssh", "-V"),
        PRODUCT: _product_version(),
    }
    for program in options.peer:
        found[program] = (
            _first_line(RCLONE, "version") if program == "rclone" else _first_line(program, "--version")
        )
    return found


def _product_version() -> str:
    """The commit, and whether something was changed since."""
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return _first_line(*command)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip()
