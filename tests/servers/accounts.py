"""An account without rights, made for the tests and removed after them: root is refused nothing."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ATTEMPTS = 20


@dataclass(frozen=True)
class Account:
    """Who it is, and a folder that it can reach."""

    name: str
    uid: int
    gid: int
    folder: Path

    def own(self, root: Path) -> None:
        """Give it a tree."""
        for path in (root, *root.rglob("*")):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Be that account in this process for a while."""
        home = os.environ["HOME"]
        os.environ["HOME"] = str(self.folder)
        try:
            with acting_as(self.uid, self.gid):
                yield
        finally:
            os.environ["HOME"] = home


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Be somebody else in this process for a while, in no other group; needs root."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextlib.contextmanager
def new_account() -> Iterator[Account]:
    """Make an account; needs root."""
    if os.geteuid() != 0:
        raise RuntimeError("These tests make an account on this machine, which takes root.")
    name = f"haulier-{os.getpid()}"
    # Below /tmp, not in a folder of pytest's, which others cannot enter. Not locked, as sshd lets none in that is.
    folder = Path(tempfile.mkdtemp(prefix="haulier-account-"))
    folder.chmod(0o755)
    try:
        _run("useradd", "--no-create-home", "--user-group", "--password", "*", "--shell", "/bin/sh", name)
        try:
            uid, gid = (int(_run("id", option, name)) for option in ("-u", "-g"))
            yield Account(name, uid, gid, folder)
        finally:
            _run("userdel", name)
    finally:
        shutil.rmtree(folder)


def _run(*command: str) -> str:
    for attempt in range(_ATTEMPTS):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # Somebody else may have the list of accounts open.
        if done.returncode == 0 or attempt == _ATTEMPTS - 1 or "lock" not in done.stderr:
            break
        time.sleep(0.2)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
