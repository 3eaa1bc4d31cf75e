"""The storages that the contract is tried on."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migration_app.storages.base import Address
from tests.servers.daemon import Daemon
from tests.servers.openssh import OpenSshServer
from tests.storages.places import Place, sftp_address


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder; not pytest's own, which other users cannot reach."""
    made = Path(tempfile.mkdtemp(prefix="haulier-contract-")).resolve()
    made.chmod(0o755)
    yield made
    # Not shutil's: some trees are deeper than Python's stack.
    subprocess.run(["chmod", "-R", "u+rwX", str(made)], check=True)
    subprocess.run(["rm", "-rf", str(made)], check=True)


@pytest.fixture(scope="session")
def openssh_without_extensions() -> Iterator[OpenSshServer]:
    """An OpenSSH server that gives little more than version 3 of SFTP."""
    with OpenSshServer(
        has_shell=False, sftp_options=["-P", "posix-rename,lsetstat,fsync,limits,copy-data"]
    ) as server:
        yield server


@pytest.fixture
def local(folder: Path) -> Place:
    """The local storage, with an empty root."""
    return Place(Address("local", local_roots=(str(folder),)), folder)


@pytest.fixture(
    params=[
        "local",
        pytest.param("sftp", marks=pytest.mark.slow),
        pytest.param("sftp without extensions", marks=pytest.mark.slow),
        pytest.param("proftpd", marks=pytest.mark.slow),
    ]
)
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """A storage of every kind, with an empty root."""
    if request.param == "local":
        local: Place = request.getfixturevalue("local")
        return local
    names = {"sftp": "openssh", "sftp without extensions": "openssh_without_extensions"}
    server: Daemon = request.getfixturevalue(names.get(request.param, request.param))
    return Place(sftp_address(server), folder, server)
