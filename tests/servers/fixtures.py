"""Real servers, one of each kind for a test process."""

from collections.abc import Iterator

import pytest

from tests.servers.accounts import Account, new_account
from tests.servers.openssh import OpenSshServer
from tests.servers.proftpd import ProftpdServer


@pytest.fixture(scope="session")
def openssh() -> Iterator[OpenSshServer]:
    """An OpenSSH server with a shell; do not stop it."""
    with OpenSshServer() as server:
        yield server


@pytest.fixture(scope="session")
def openssh_without_shell() -> Iterator[OpenSshServer]:
    """An OpenSSH server that gives SFTP and nothing else; do not stop it."""
    with OpenSshServer(has_shell=False) as server:
        yield server


@pytest.fixture(scope="session")
def proftpd() -> Iterator[ProftpdServer]:
    """A ProFTPD with SFTP; do not stop it."""
    with ProftpdServer() as server:
        yield server


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    """An account without rights; its folder is for all tests."""
    with new_account() as account:
        yield account
