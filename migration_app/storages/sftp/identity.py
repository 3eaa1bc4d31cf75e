"""What a server is shown to be let in, beside a password: a private key, or those of an SSH agent."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncssh

from migration_app.storages.base import Address
from migration_app.storages.errors import AuthenticationFailed


@dataclass(frozen=True, slots=True)
class Identity:
    """Keys to sign in with, and what a refusal says of all that was tried, as in `with this password`."""

    said: str
    keys: Sequence[asyncssh.SSHKey | asyncssh.SSHKeyPair] = ()


@asynccontextmanager
async def identity_of(address: Address) -> AsyncIterator[Identity]:
    """The key of an address; where it has neither key nor password, those of its agent, which signs meanwhile.

    Raises AuthenticationFailed for a key that cannot be read.
    """
    given = [name for name, secret in (("password", address.password), ("key", address.ssh_key)) if secret]
    nothing = "without a password or key"
    if address.ssh_key:
        yield Identity(f"with this {' and '.join(given)}", [await _private_key(address)])
    elif given:
        yield Identity("with this password")
    elif not address.agent:
        yield Identity(nothing)
    else:
        async with asyncssh.SSHAgentClient(address.agent) as agent:
            yield await _agent_identity(agent, nothing)


async def _agent_identity(agent: asyncssh.SSHAgentClient, nothing: str) -> Identity:
    try:
        keys = await agent.get_keys()
    except (OSError, ValueError):
        return Identity(f"{nothing}, and the SSH agent does not answer")
    if keys:
        return Identity("with a key of the SSH agent", keys)
    return Identity(f"{nothing}, and the SSH agent holds no key")


async def _private_key(address: Address) -> asyncssh.SSHKey:
    # What is pasted into a form often ends its lines as Windows does, or lacks the last end.
    text = "\n".join(address.ssh_key.split("\r\n")).strip() + "\n"
    try:
        # A passphrase is slow to try by design, and how slow is the key's own choice.
        return await asyncio.to_thread(asyncssh.import_private_key, text, address.passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        if is_encrypted(text):
            reason = "has another passphrase" if address.passphrase else "needs a passphrase"
            raise AuthenticationFailed(f"The private key {reason}.") from None
        raise AuthenticationFailed("The text given as private key is none that can be read.") from None


def is_encrypted(text: str) -> bool:
    """Whether a private key wants a passphrase; asyncssh's errors do not tell that apart."""
    lines = text.splitlines()
    if any("ENCRYPTED" in line for line in lines[:3]):
        return True
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    except ValueError:
        return False
    # OpenSSH's PROTOCOL.key: a magic word, then the name of the cipher.
    return data.startswith(b"openssh-key-v1\0") and not data[15:].startswith(b"\0\0\0\4none")
