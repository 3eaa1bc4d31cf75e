"""`manage.py move` as a person and as a script use it."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import asyncssh
import psutil
import pytest

from tests.product import ROOT, Product, until
from tests.servers.agent import ssh_agent
from tests.servers.faulty import beside, faulty
from tests.trees import differences, digest, small_tree

CANARY = "canary-61c2"
MOVE = [sys.executable, "manage.py", "move"]
# The terminal's own Ctrl-C reaches the session that it controls.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
# As in a shell that somebody types into: what runs in the background may have been told to ignore it.
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def machine(tmp_path):
    """A data directory, without a server unless a test starts one."""
    with Product(tmp_path / "product") as found:
        found.migrate()
        yield found


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory):
    """One for all tests that get nowhere."""
    with Product(tmp_path_factory.mktemp("product")) as found:
        found.migrate()
        yield found


@pytest.fixture
def key_file(host, tmp_path):
    path = tmp_path / "id_ed25519"
    path.write_text(host.private_key)
    path.chmod(0o600)
    return path


@pytest.fixture
def address(host):
    return lambda folder: f"sftp://{host.username}@{host.host}:{host.port}{folder}"


def move(machine, *arguments, **environment):
    return subprocess.run(
        [*MOVE, *map(str, arguments)],
        cwd=ROOT,
        env=machine.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Terminal:
    """A command in a real pseudo-terminal."""

    def __init__(self, machine, *arguments):
        self.process, self._end = self._start(machine, arguments)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(self, machine, arguments):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *MOVE, *map(str, arguments)],
            cwd=ROOT,
            env=machine.environment | {"TERM": "xterm-256color", "COLUMNS": "80"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return process, ours

    def _read(self):
        with contextlib.suppress(OSError):
            while data := os.read(self._end, 4096):
                self.text += data.decode(errors="replace")

    def type(self, text):
        os.write(self._end, text.encode())

    def wait(self):
        code = self.process.wait(120)
        self._reader.join(5)
        os.close(self._end)
        return code


def test_site_goes_up_and_down_without_a_server(machine, wordpress, host, address, key_file, tmp_path):
    up = move(
        machine,
        wordpress,
        address(tmp_path / "host"),
        "--destination-key",
        key_file,
        "--accept-new-host-key",
    )
    assert (up.returncode, up.stderr) == (0, "")
    assert differences(wordpress, tmp_path / "host") == ""
    assert host.fingerprint in up.stdout
    assert re.search(r"^(initializing|scanning|transferring): .* files, .* of ", up.stdout, re.MULTILINE)
    assert up.stdout.splitlines()[-1].startswith("Done: ")
    assert "\x1b" not in up.stdout
    down = move(machine, address(tmp_path / "host"), tmp_path / "down", "--source-key", key_file, "--json")
    assert down.returncode == 0
    assert differences(wordpress, tmp_path / "down") == ""
    lines = [json.loads(line) for line in down.stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]].count("progress") >= 1
    assert (lines[-1]["type"], lines[-1]["status"]) == ("transfer", "completed")
    assert lines[-1]["transfer_result"]["verification_result"]["success"]


def test_unknown_host_key_is_not_taken_by_a_script(machine, host, address, key_file, tmp_path):
    site = small_tree(tmp_path / "site")
    done = move(machine, site, address(tmp_path / "host"), "--destination-key", key_file)
    assert done.returncode == 2
    assert host.fingerprint in done.stderr
    assert "--accept-new-host-key" in done.stderr
    accepting = ["--destination-key", key_file, "--accept-new-host-key"]
    strict = move(machine, site, address(tmp_path / "host"), *accepting, HAULIER_HOST_KEYS="strict")
    assert strict.returncode == 1
    assert f"is unknown: ssh-ed25519 {host.fingerprint}" in strict.stderr
    assert not (tmp_path / "host").exists()


def test_person_is_asked_for_the_host_key(machine, host, address, key_file, tmp_path):
    site = small_tree(tmp_path / "site")
    arguments = (site, address(tmp_path / "host"), "--destination-key", key_file)
    for answer, code in (("n\n", 2), ("y\n", 0)):
        terminal = Terminal(machine, *arguments)
        until(lambda terminal=terminal: "[y/N]" in terminal.text)
        assert host.fingerprint in terminal.text
        terminal.type(answer)
        assert terminal.wait() == code
    assert differences(site, tmp_path / "host") == ""
    assert "Done: 15 of 15 files" in terminal.text


@pytest.fixture
def slow_site(tmp_path):
    root = tmp_path / "site"
    for folder in range(40):
        (root / f"folder{folder}").mkdir(parents=True)
        for file in range(100):
            (root / f"folder{folder}/file{file}").write_bytes(os.urandom(1000))
    return root


def test_bar_ctrl_c_kill_and_resume_in_a_terminal(machine, address, key_file, slow_site, tmp_path):
    terminal = Terminal(
        machine,
        slow_site,
        address(tmp_path / "host"),
        "--destination-key",
        key_file,
        "--accept-new-host-key",
        # However fast the machine, there is something left to be interrupted.
        "--bwlimit=2",
    )
    until(lambda: re.search(r"[1-9]\d* of [\d,]+ files", terminal.text))
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "━" in terminal.text
    resume = re.search(r"manage\.py move --resume ([0-9a-f-]{36})", terminal.text)
    assert resume, terminal.text

    def arrived():
        return len(list((tmp_path / "host").rglob("file*")))

    there = arrived()
    assert 0 < there < 4000
    killed = Terminal(machine, "--resume", resume[1])
    until(lambda: arrived() > there + 500)
    killed.process.kill()
    killed.wait()
    assert arrived() < 4000
    done = move(machine, "--resume", resume[1])
    assert done.returncode == 0, done.stderr
    assert differences(slow_site, tmp_path / "host") == ""
    again = move(machine, "--resume", resume[1])
    assert again.returncode == 2
    assert "completed" in again.stderr


def test_killed_move_is_finished_by_the_servers_workers(machine, address, key_file, slow_site, tmp_path):
    machine.start()
    process = subprocess.Popen(
        [
            *(*MOVE, str(slow_site), address(tmp_path / "host"), "--destination-key", str(key_file)),
            "--accept-new-host-key",
        ],
        cwd=ROOT,
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def job():
        jobs = machine.get("/api/sessions").body
        return jobs[0] if jobs and (jobs[0]["progress"] or {}).get("files_transferred", 0) > 100 else None

    found = until(job)
    assert found["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    machine.wait_for(found["id"])
    assert differences(slow_site, tmp_path / "host") == ""


def test_killed_move_that_only_its_terminal_can_sign_in_for_is_paused(
    machine, host, address, slow_site, tmp_path
):
    machine.start()
    with ssh_agent(host.private_key) as agent:
        process = subprocess.Popen(
            [*MOVE, str(slow_site), address(tmp_path / "host"), "--accept-new-host-key"],
            cwd=ROOT,
            env=machine.environment | {"SSH_AUTH_SOCK": agent.socket},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(lambda: len(list((tmp_path / "host").rglob("file*"))) > 100)
        process.kill()
        process.wait()
        [job] = machine.get("/api/sessions").body
        machine.wait_for(job["id"], "paused")
        with machine.read_sse(f"/api/sessions/{job['id']}/events") as stream:
            paused = next(frame for frame in stream if frame.data.get("to") == "paused")
        command = f"Go on with: .venv/bin/python manage.py move --resume {job['id']}"
        assert paused.data["reason"].endswith(f"is not stored. {command}")
        done = move(machine, "--resume", job["id"], SSH_AUTH_SOCK=agent.socket)
    assert done.returncode == 0, done.stderr
    assert differences(slow_site, tmp_path / "host") == ""


def test_passphrase_of_a_key_is_asked_for(bare_machine, host, address, tmp_path):
    key = asyncssh.import_private_key(host.private_key)
    key_file = tmp_path / "id"
    key_file.write_bytes(key.export_private_key("openssh", passphrase="open sesame"))
    site = small_tree(tmp_path / "site")
    arguments = [site, address(tmp_path / "host"), "--destination-key", key_file, "--accept-new-host-key"]
    done = move(bare_machine, *arguments)
    assert done.returncode == 2
    assert "needs a passphrase" in done.stderr
    terminal = Terminal(bare_machine, *arguments)
    until(lambda: "Passphrase of" in terminal.text)
    terminal.type("open sesame\n")
    assert terminal.wait() == 0, terminal.text
    assert "sesame" not in terminal.text
    assert differences(site, tmp_path / "host") == ""


class PasswordServer(asyncssh.SSHServer):
    """Lets in whoever knows the password."""

    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return password == CANARY


@pytest.fixture
def password_address():
    """Of a server that takes a password."""
    with beside(faulty(Path("/"), ssh_class=PasswordServer)) as found:
        yield f"sftp://web@127.0.0.1:{found.port}"


def test_password_comes_from_the_environment_or_a_prompt_and_is_seen_nowhere(
    bare_machine, password_address, tmp_path
):
    site = small_tree(tmp_path / "site")
    to = f"{password_address}{tmp_path}/host"
    done = move(bare_machine, site, to, "--accept-new-host-key", HAULIER_DESTINATION_PASSWORD=CANARY)
    assert done.returncode == 0, done.stderr
    assert differences(site, tmp_path / "host") == ""
    said = done.stdout + done.stderr
    for password, code in (("wrong " + CANARY, 1), (CANARY, 0)):
        terminal = Terminal(bare_machine, site, to)
        until(lambda terminal=terminal: "Password of web@127.0.0.1" in terminal.text)
        terminal.type(f"{password}\n")
        command_line = psutil.Process(terminal.process.pid).cmdline()
        assert terminal.wait() == code
        said += terminal.text + str(command_line)
    assert "does not let user 'web' in with this password" in said
    assert CANARY not in said
    for path in bare_machine.folder.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_two_moves_beside_a_running_server(machine, address, key_file, tmp_path):
    machine.start()
    sites = [small_tree(tmp_path / f"site{number}", folders=20, files=20) for number in range(2)]
    options = ["--destination-key", key_file, "--accept-new-host-key"]
    results = []
    threads = [
        threading.Thread(
            target=lambda site=site: results.append(
                move(machine, site, address(tmp_path / f"host-{site.name}"), *options)
            )
        )
        for site in sites
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in results] == [0, 0], [done.stderr for done in results]
    for site in sites:
        assert differences(site, tmp_path / f"host-{site.name}") == ""


def test_dry_run_lists_what_would_be_done_and_writes_nothing(bare_machine, tmp_path):
    site, copy = small_tree(tmp_path / "site", folders=1, files=2), tmp_path / "copy"
    assert move(bare_machine, site, copy).returncode == 0
    (site / "folder 0/file 0.txt").write_text("changed")
    (site / "new\nfolder").mkdir()
    (site / "new\nfolder/new.txt").write_text("new")
    (site / "blocked").touch()
    (copy / "blocked").mkdir()
    before = digest(copy)
    plain = move(bare_machine, site, copy, "--dry-run")
    assert (plain.returncode, plain.stderr) == (0, "")
    *_, first, second, third, last = plain.stdout.splitlines()
    assert {first, second, third} == {
        "update  folder 0/file 0.txt",
        "create  new‹U+000A›folder/",
        "create  new‹U+000A›folder/new.txt",
    }
    assert last == (
        "Only compared: 2 to create, 1 to change, 2 to leave as they are, 1 that cannot be copied; "
        "10 B to copy. Nothing was written."
    )
    lines = [
        json.loads(line) for line in move(bare_machine, site, copy, "--dry-run", "--json").stdout.splitlines()
    ]
    entries = [line["data"] for line in lines[:-1] if line["event"] == "entry"]
    assert {(entry["action"], entry["kind"], entry["path"]) for entry in entries} == {
        ("update", "file", "folder 0/file 0.txt"),
        ("create", "folder", "new\nfolder"),
        ("create", "file", "new\nfolder/new.txt"),
    }
    assert lines[-1]["transfer_result"]["summary"]["create"] == 2
    assert digest(copy) == before


def test_checksum_finds_what_size_and_time_hide(bare_machine, tmp_path):
    site, copy = small_tree(tmp_path / "site", folders=1, files=3), tmp_path / "copy"
    assert move(bare_machine, site, copy).returncode == 0
    there = copy / "folder 0/file 1.txt"
    times = [(path, path.stat().st_mtime_ns) for path in (there, there.parent)]
    there.write_bytes(b"!" * 1000)
    for path, mtime in times:
        os.utime(path, ns=(mtime, mtime))
    assert "0 to change" in move(bare_machine, site, copy, "--dry-run").stdout
    planned = move(bare_machine, site, copy, "--dry-run", "--checksum").stdout.splitlines()
    assert planned[-3:] == [
        "update  folder 0/file 1.txt",
        "Compared 3 files of equal size by content (SHA-256): 1 differs.",
        "Only compared: 0 to create, 1 to change, 3 to leave as they are; 1,000 B to copy. Nothing was written.",
    ]
    assert there.read_bytes() == b"!" * 1000
    done = move(bare_machine, site, copy, "--checksum", "--no-verify", "--json")
    result = json.loads(done.stdout.splitlines()[-1])["transfer_result"]
    assert (result["files_transferred"], result["comparison"]["files_compared"]) == (1, 3)
    assert differences(site, copy) == ""
    refused = move(bare_machine, "--resume", "00000000-0000-0000-0000-000000000000", "--checksum")
    assert (refused.returncode, "leave --checksum out" in refused.stderr) == (2, True)


def test_delete_removes_what_the_source_does_not_have_and_asks_before_much_of_it(bare_machine, tmp_path):
    site, copy = small_tree(tmp_path / "site", folders=1, files=8), tmp_path / "copy"
    assert move(bare_machine, site, copy).returncode == 0
    (copy / "old").mkdir()
    (copy / "old/file").write_text("x")
    before = digest(copy)
    planned = move(bare_machine, site, copy, "--dry-run", "--delete").stdout.splitlines()
    assert set(planned[-3:-1]) == {"delete  old/", "delete  old/file"}
    assert "2 to delete" in planned[-1]
    assert move(bare_machine, site, copy).returncode == 0
    assert digest(copy) == before
    done = move(bare_machine, site, copy, "--delete")
    assert (done.returncode, "Deleted at the destination: 2." in done.stdout) == (0, True)
    assert differences(site, copy) == ""
    for number in range(20):
        (copy / f"{number}").touch()
    asked = move(bare_machine, site, copy, "--delete")
    assert (asked.returncode, "confirm 20 deletions" in asked.stdout + asked.stderr) == (1, True)
    assert (copy / "0").exists()
    assert move(bare_machine, site, copy, "--delete", "--confirm-deletions", "20").returncode == 0
    assert differences(site, copy) == ""
    wrong = move(bare_machine, site, copy, "--confirm-deletions", "-3")
    assert (wrong.returncode, "--confirm-deletions" in wrong.stderr) == (2, True)


def test_work_goes_on_when_nobody_reads_any_more(bare_machine, tmp_path):
    site = small_tree(tmp_path / "site", folders=10, files=50)
    with subprocess.Popen(
        [*MOVE, site, tmp_path / "copy"],
        cwd=ROOT,
        env=bare_machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")
    assert digest(tmp_path / "copy") == digest(site)


@pytest.mark.parametrize("to", [">/dev/full", ">&-", "<&- >&- 2>&-"])
def test_work_goes_on_where_nothing_can_be_written(bare_machine, tmp_path, to):
    site = small_tree(tmp_path / "site", folders=2, files=5)
    command = f'exec "$@" {to}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *MOVE, site, tmp_path / "copy"],
        cwd=ROOT,
        env=bare_machine.environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert digest(tmp_path / "copy") == digest(site)


def test_options_reach_the_job(bare_machine, tmp_path):
    site = small_tree(tmp_path / "site", folders=2, files=2)
    (site / "error.log").touch()
    options = ["--exclude", "*.log", "--exclude", "/folder 1", "--bwlimit", "2.5", "--no-verify"]
    done = move(bare_machine, site, tmp_path / "copy", *options)
    assert done.stdout.splitlines()[-1].endswith("Not verified.")
    assert set(digest(tmp_path / "copy")) == {"folder 0", "folder 0/file 0.txt", "folder 0/file 1.txt"}
    with contextlib.closing(sqlite3.connect(bare_machine.folder / "data/haulier.sqlite3")) as database:
        [row] = database.execute("SELECT params FROM sessions_app_job ORDER BY created_at DESC LIMIT 1")
    assert json.loads(row[0])["bandwidth_limit"] == 2.5
    move(
        bare_machine,
        site,
        tmp_path / "copy",
        "--bwlimit",
        "08:00,2 18:00,off",
        "--bwlimit-zone",
        "Asia/Tokyo",
    )
    with contextlib.closing(sqlite3.connect(bare_machine.folder / "data/haulier.sqlite3")) as database:
        [row] = database.execute("SELECT params FROM sessions_app_job ORDER BY created_at DESC LIMIT 1")
    params = json.loads(row[0])
    assert (params["bandwidth_limit"], params["bandwidth_timezone"]) == (0, "Asia/Tokyo")
    assert params["bandwidth_timetable"] == [
        {"from": "08:00", "to": "18:00", "limit": 2.0},
        {"from": "18:00", "to": "08:00", "limit": 0.0},
    ]
    verified = move(bare_machine, site, tmp_path / "copy", "--verify")
    assert "All 5 files are there and equal by content" in verified.stdout


@pytest.mark.parametrize("question", ["Password of", "[y/N]"])
def test_ctrl_c_at_a_question_starts_nothing(bare_machine, host, key_file, address, tmp_path, question):
    key = [] if question == "Password of" else ["--destination-key", key_file]
    terminal = Terminal(bare_machine, small_tree(tmp_path / "site"), address(tmp_path / "host"), *key)
    until(lambda: question in terminal.text)
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "no job was started" in terminal.text
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "SOURCE and DESTINATION"),
        (["/nowhere", "/nowhere/else", "--bwlimit", "fast"], "--bwlimit"),
        (["--resume", "nonsense"], "nonsense"),
        (["/nowhere", "/nowhere/else", "--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_says_what_is_wrong(bare_machine, arguments, word):
    done = move(bare_machine, *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_failed_move_exits_with_1(bare_machine, tmp_path):
    done = move(bare_machine, tmp_path / "missing", tmp_path / "to")
    assert done.returncode == 1
    assert "does not exist" in done.stderr


def test_failed_move_says_how_to_do_what_failed_and_does_it(bare_machine, tmp_path):
    site, copy = small_tree(tmp_path / "site", folders=2, files=3), tmp_path / "copy"
    (copy / "folder 0/file 1.txt").mkdir(parents=True)
    done = move(bare_machine, site, copy)
    assert done.returncode == 1
    assert done.stderr.startswith("1 of 6 files failed.\nWhat failed is done anew with: ")
    command = done.stderr.splitlines()[-1].partition(" with: ")[2]
    assert command.startswith(".venv/bin/python manage.py move --resume ")
    (copy / "folder 0/file 1.txt").rmdir()
    again = move(bare_machine, "--resume", command.split()[-1])
    assert (again.returncode, again.stderr) == (0, "")
    assert "All 6 files are there and equal by content" in again.stdout
    assert digest(copy) == digest(site)
    once_more = move(bare_machine, "--resume", command.split()[-1])
    assert once_more.returncode == 2
    assert "The session is completed" in once_more.stderr
