"""One job in each condition that a page can show, made by the engine's own functions and without workers."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from migration_app import connections, endpoints, manifest
from migration_app.manifest import Row
from migration_app.models import Endpoint, EntryAction, EntryState
from migration_app.models import HostKey as SeenKey
from migration_app.runners.time_left import Pace
from migration_app.storages.base import Entry, HostKey, Kind
from migration_app.submission import submit_scan, submit_transfer
from sessions_app import events, jobs, schedules, transitions
from sessions_app.models import Job, JobCurve, Schedule, Shard, User
from sessions_app.runners import NewEvent, Outcome
from sessions_app.states import JobStatus
from sessions_app.submitters import RequestMeta
from sessions_app.transitions import refresh_progress

Json = dict[str, Any]

RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"
HOSTILE_NAME = "<script>alert(1)</script>'\"&" + "x" * 100
HOSTILE = f"<script>alert(1)</script>/{RIGHT_TO_LEFT}gpj.exe\nsecond line/'\"&" + "x" * 255

_SFTP = {"protocol": "sftp", "host": "example.org", "port": 2222, "username": "www", "password": "hunter2"}
_RESULT = {
    "success": True,
    "statistics": {
        "total_files": 2514,
        "total_dirs": 311,
        "total_size": 63_241_118,
        "total_size_human": "60 MiB",
        "largest_files": [{"path": f"wp-content/uploads/{n}.jpg", "size": 4_000_000 - n} for n in range(25)],
        "files_by_type": {".php": 1200, ".js": 600, ".jpg": 400, "": 314},
        "files_by_type_size": {".php": 21_000_000, ".js": 11_000_000, ".jpg": 31_000_000, "": 241_118},
        "files_by_size": [
            {"up_to": 0, "files": 14, "size": 0},
            {"up_to": 1024, "files": 900, "size": 400_000},
            {"up_to": 10_240, "files": 1000, "size": 5_841_118},
            {"up_to": 102_400, "files": 590, "size": 17_000_000},
            {"up_to": None, "files": 10, "size": 40_000_000},
        ],
        "folders": [
            {"path": "wp-content/uploads", "is_own": False, "files": 400, "size": 31_000_000},
            {"path": "wp-includes", "is_own": False, "files": 1200, "size": 21_000_000},
            {"path": HOSTILE[:200], "is_own": False, "files": 600, "size": 10_000_000},
            {"path": "wp-content", "is_own": True, "files": 2, "size": 1_118},
            {"path": "", "is_own": True, "files": 12, "size": 240_000},
            {"path": "", "is_own": False, "more": 3, "files": 300, "size": 1_000_000},
        ],
        "directory_depth": 9,
        "symlinks_count": 2,
        "excluded_count": 12,
        "excluded_size": 40_960,
    },
    "cms_detection": {
        "detected": True,
        "type": "wordpress",
        "version": "6.1.9",
        "root_path": "/srv/www/example.org",
        "config_file": "wp-config.php",
        "database_config": {
            "host": "localhost",
            "port": 3306,
            "database": "wp_example",
            "username": "wp",
            "password": "",
            "prefix": "wp_",
        },
        "confidence": 0.98,
        "indicators": ["wp-config.php", "wp-includes/version.php"],
    },
    "exclusions": [
        {"pattern": "*.log", "type": "glob", "reason": "", "is_automatic": False, "enabled": True},
        {"pattern": "cache", "type": "glob", "reason": "made anew", "is_automatic": True, "enabled": False},
    ],
    "unreadable": [],
}
_COPIED = {
    "success": True,
    "files_transferred": 2514,
    "bytes_transferred": 63_241_118,
    "errors_count": 0,
    "failures": [],
    "method": "sftp_stream",
    "verification_result": {
        "success": True,
        "source_files": 2514,
        "dest_files": 2514,
        "source_size": 63_241_118,
        "dest_size": 63_241_118,
        "missing_files": 0,
        "mismatched_files": 0,
        "problems": [],
        "message": "All 2,514 files are there and equal by content (SHA-256).",
        "evidence": {"two_sided_hash": 2514, "readback": 0, "size_only": 0},
    },
}
_BROKEN = {
    **_COPIED,
    "success": False,
    "errors_count": 3,
    "error_message": "3 of 2,825 entries failed.",
    "verification_result": {
        **_COPIED["verification_result"],  # type: ignore[dict-item]
        "success": False,
        "missing_files": 3,
        "message": "3 files are missing.",
        "problems": [{"path": "wp-content/a.jpg", "error": "is missing"}],
    },
}
_SCANNED = {"connected": 1, "files": 1204, "folders": 96, "bytes": 20_400_000}
_COMPARED = {"connected": 1, "prepared": 1, "total_files": 2514, "total_bytes": 63_241_118, "skipped": 40}


def _tested(*done: str, failed: str = "", verdict: str = "", key: Json | None = None) -> Json:
    """A ProbeResult."""
    message = "The host key of example.org:2222 is not the one that was seen before." if failed else ""
    stages = [{"name": name, "state": "ok", "duration_ms": 12.345, "message": ""} for name in done]
    if failed:
        stages.append({"name": failed, "state": "failed", "duration_ms": 0.1, "message": message})
        stages.append({"name": "login", "state": "skipped", "duration_ms": 0, "message": ""})
    return {
        "success": not failed,
        "verdict": verdict or message,
        "stages": stages,
        "badges": ["SFTP 3", "Lists", "Reads", "Writes", "Shell"],
        "performance": {
            "latency": 41_200_000,
            "latency_ms": 41.2,
            "upload_speed": 31.25,
            "download_speed": 8,
        },
        "host_key": key,
    }


class Gallery:
    """Makes jobs of one person."""

    def __init__(self, owner: User) -> None:
        self._owner = owner
        self._meta = RequestMeta(None, "Mozilla/5.0 (X11; Linux x86_64) Firefox/150", "127.0.0.1")
        self._submits = {"scan": submit_scan, "transfer": submit_transfer}
        self._count = 0
        key = {"algorithm": "ssh-ed25519", "fingerprint": f"SHA256:{'C' * 43}"}
        SeenKey.objects.get_or_create(owner=owner, host=_SFTP["host"], port=_SFTP["port"], defaults=key)

    def pending(self, job_type: str, **options: Any) -> Job:
        """A job that waits for a worker."""
        self._count += 1
        root = options.pop("root", f"/srv/www/example.org/{self._count}")
        if job_type == "scan":
            data: Json = {"server_config": {**_SFTP, "root_path": root}, "detect_cms": True}
        else:
            data = {
                "source_config": {**_SFTP, "root_path": root},
                "dest_config": {"protocol": "local", "root_path": f"/srv/copies/{self._count}"},
                "verify_after_transfer": True,
            }
        return self._submits[job_type](self._owner, data | options, self._meta)[0]

    def waiting(self) -> Job:
        """A transfer that waits for another one."""
        job = self.pending("transfer")
        other = "It waits for Transfer 1b4f0c11, which writes to the same destination."
        refresh_progress(job.pk, waiting_for=other)
        return job

    def running(self, job_type: str, counters: Json | None = None, path: str = "wp-includes/a.php") -> Job:
        """A job at work; a few minutes old."""
        job = self.pending(job_type)
        transitions.move(job.pk, JobStatus.RUNNING)
        Job.objects.filter(pk=job.pk).update(started_at=timezone.now() - timedelta(seconds=200))
        events.append(job.pk, [NewEvent("phase", {"phase": "connecting"})])
        if job_type == "transfer":
            # As it stood when the first file came.
            known = {"status": "transferring", "_pace": Pace(1.0, 0, 0, has_begun=True).as_json()}
            Job.objects.filter(pk=job.pk).update(progress=known)
        Shard.objects.filter(job=job).update(counters=counters or {})
        refresh_progress(job.pk, current={"path": path})
        return job

    def copying(self, **more: int) -> Job:
        """A transfer half done."""
        counters = {**_COMPARED, "files": 1201, "bytes": 31_000_000, **more}
        job = self.running("transfer", counters)
        events.append(job.pk, [NewEvent("phase", {"phase": phase}) for phase in ("scanning", "transferring")])
        rates = [(number * 7919) % 9_000_000 for number in range(200)]
        JobCurve.objects.update_or_create(
            job=job, defaults={"rates": [*rates[:80], *[None] * 40, *rates[120:]]}
        )
        return job

    def fail_files(self, job: Job, *paths: str) -> None:
        """Log failed files."""
        error = "Permission denied by the server; the account may not read it."
        found = [NewEvent("file_failed", {"path": path, "error": error}) for path in paths]
        events.append(job.pk, found)

    def list_files(self, job: Job, *paths: bytes) -> None:
        """Rows of the manifest, all of them failed."""
        error = "Permission denied by the server; the account may not read it."
        entries = [Entry(path, Kind.FILE, 40_960) for path in paths]
        rows = [
            Row(number, entry, EntryAction.CREATE, EntryState.FAILED, error)
            for number, entry in enumerate(entries, 1)
        ]
        manifest.add(job.pk, rows)

    def ended(self, job: Job, result: Json, error: str = "") -> Job:
        """The job with its result."""
        target = JobStatus.FAILED if error else JobStatus.COMPLETED
        transitions.move(job.pk, target, outcome=Outcome(result, error))
        return job

    def connections(self) -> dict[str, int]:
        """Stored connections as their pages can show them."""
        key = {"algorithm": "ssh-ed25519", "fingerprint": f"SHA256:{'A' * 43}"}
        works = ("list", "write", "read")
        states = {
            "untested": None,
            "tested": _tested(*works, verdict="Ready as source and destination."),
            "unknown-key": _tested(
                "name", "port", "handshake", failed="host_key", key=key | {"status": "new"}
            ),
            "changed-key": _tested(
                "name", "port", "handshake", failed="host_key", key=key | {"status": "changed"}
            ),
        }
        found = {}
        for number, (name, test) in enumerate(states.items()):
            stored = connections.create(
                self._owner, {**_SFTP, "port": 2200 + number, "name": name, "root_path": "/srv/www"}
            )
            stored.last_test, stored.tested_at = test, timezone.now() - timedelta(minutes=7)
            stored.save()
            found[name] = stored.pk
        changed = Endpoint.objects.get(pk=found["changed-key"])
        endpoints.pin(changed, HostKey("ssh-ed25519", f"SHA256:{'B' * 43}"))
        here = {"name": "this machine", "protocol": "local", "root_path": str(Path(__file__).parent)}
        return found | {"here": connections.create(self._owner, here).pk}

    def schedules(self) -> dict[str, int]:
        """Schedules as their pages can show them."""
        job: Json = {
            "type": "transfer",
            "source_config": {**_SFTP, "root_path": "/srv/www/example.org"},
            "dest_config": {"protocol": "local", "root_path": "/srv/copies/nightly"},
            "exclusions": ["*.log"],
            "verify_after_transfer": True,
        }
        scan = {"type": "scan", "server_config": {**_SFTP, "root_path": "/srv/www"}}
        nightly = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
        found = {
            "nightly": schedules.create(self._owner, nightly | {"name": "Nightly copy", "job": job}),
            "paused": schedules.create(self._owner, nightly | {"job": scan, "paused": True}),
            "failing": schedules.create(
                self._owner, {"cron": "*/15 9-17 * * MON-FRI", "name": HOSTILE_NAME, "job": scan}
            ),
        }
        now = timezone.now()
        for number in range(6):
            run = self.pending("transfer")
            Job.objects.filter(pk=run.pk).update(schedule=found["nightly"])
            transitions.move(run.pk, JobStatus.RUNNING)
            self.ended(run, _BROKEN if number == 3 else _COPIED, "3 failed." if number == 3 else "")
        Schedule.objects.filter(pk=found["paused"].pk).update(
            last_skipped_at=now, last_skipped_reason="No worker ran at 2026-11-27 03:00 UTC."
        )
        Schedule.objects.filter(pk=found["failing"].pk).update(
            last_error="server_config.connection: You have no stored connection of this id.",
            last_error_at=now,
        )
        return {name: schedule.pk for name, schedule in found.items()}

    def fill(self) -> dict[str, Job]:
        """One job for each condition, by its name."""
        found: dict[str, Job] = {}
        scanned = {**_SCANNED, "files": 2514, "folders": 311, "bytes": 63_241_118}
        unreadable = [{"path": "wp-content/private", "error": "Permission denied."}]
        found["scan-completed"] = self.ended(self.running("scan", scanned), _RESULT)
        found["scan-with-failures"] = self.ended(
            self.running("scan", {**scanned, "failed": 1}), {**_RESULT, "unreadable": unreadable}
        )
        nothing = {**_RESULT, "statistics": {"total_files": 0, "total_dirs": 0, "total_size": 0}}
        nothing["cms_detection"] = {"detected": False}
        found["scan-of-nothing"] = self.ended(self.running("scan", {"connected": 1}), nothing)
        found["scan-failed"] = self.running("scan", {})
        transitions.move(
            found["scan-failed"].pk,
            JobStatus.FAILED,
            reason="example.org:2222 does not let www in: it refused the password.",
        )
        found["transfer-completed"] = self.ended(self.copying(files=1313, bytes=32_241_118), _COPIED)
        failing = self.copying(failed=3, failed_files=3)
        self.fail_files(failing, "wp-content/a.jpg", "wp-content/b.jpg", "wp-content/c.jpg")
        found["transfer-failed"] = self.ended(failing, _BROKEN, "3 of 2,825 entries failed.")
        partial = self.copying(failed=3, failed_files=3)
        self.fail_files(partial, "wp-content/a.jpg")
        found["transfer-with-failures"] = self.ended(partial, {**_BROKEN, "success": True})
        found["transfer-cancelled"] = self.copying()
        jobs.cancel(found["transfer-cancelled"].pk)
        found["scan-cancelled"] = self.running("scan", _SCANNED)
        jobs.cancel(found["scan-cancelled"].pk)
        found["hostile"] = self.pending("transfer")
        Job.objects.filter(pk=found["hostile"].pk).update(title=HOSTILE)
        transitions.move(found["hostile"].pk, JobStatus.RUNNING)
        Shard.objects.filter(job=found["hostile"]).update(counters={**_COMPARED, "files": 3, "failed": 1})
        refresh_progress(found["hostile"].pk, current={"path": HOSTILE})
        self.fail_files(found["hostile"], HOSTILE)
        events.append(
            found["hostile"].pk, [NewEvent("log", {"level": "warning", "message": f"Left out: {HOSTILE}."})]
        )
        for job in (found["hostile"], failing):
            self.list_files(job, HOSTILE.encode(), b"wp-content/a.jpg")
        found["scan-pending"] = self.pending("scan")
        found["transfer-waiting"] = self.waiting()
        found["transfer-comparing"] = self.running("transfer", {"connected": 1, "total_files": 90})
        found["scan-running"] = self.running("scan", _SCANNED)
        found["transfer-paused"] = self.copying()
        transitions.move(found["transfer-paused"].pk, JobStatus.PAUSED)
        found["transfer-running"] = self.copying(failed=1)
        under_way = [{"path": HOSTILE, "size_bytes": 9_000_000, "done_bytes": 4_000_000}] * 3
        refresh_progress(found["transfer-running"].pk, current={"shard": 2, "under_way": under_way})
        self.fail_files(found["transfer-running"], "wp-content/a.jpg")
        for job in found.values():
            job.refresh_from_db()
        return found
