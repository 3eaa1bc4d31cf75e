"""SFTP: asyncssh carries the channel, authentication and host keys; the packets above it are ours.

Facts about the protocol come from draft-ietf-secsh-filexfer-02 (version 3) and OpenSSH's PROTOCOL file.
"""

from migration_app.storages.sftp.storage import SftpStorage

__all__ = ["SftpStorage"]
