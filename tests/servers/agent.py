"""An SSH agent of a test's own."""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 10.0


class SshAgent:
    """A running `ssh-agent`; `socket` is what SSH_AUTH_SOCK holds."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "agent")

    def add(self, private_key: str) -> None:
        """Have the agent hold a key, given in OpenSSH's format."""
        subprocess.run(
            ["ssh-add", "-q", "-"],
            env={"SSH_AUTH_SOCK": self.socket},
            input=private_key,
            text=True,
            capture_output=True,
            check=True,
        )


@contextlib.contextmanager
def ssh_agent(*private_keys: str) -> Iterator[SshAgent]:
    """Start an agent that holds some keys; end it afterwards."""
    # Below /tmp: the name of a socket may not be long.
    with tempfile.TemporaryDirectory(prefix="haulier-agent-") as name:
        agent = SshAgent(Path(name))
        process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", agent.socket], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + START_S
            # The socket's name is there a moment before anybody listens.
            while not _is_answered(agent.socket):
                assert process.poll() is None, "ssh-agent does not start"
                assert time.monotonic() < deadline, "ssh-agent does not answer"
                time.sleep(0.01)
            for private_key in private_keys:
                agent.add(private_key)
            yield agent
        finally:
            process.kill()
            process.wait()


def _is_answered(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(name) == 0
