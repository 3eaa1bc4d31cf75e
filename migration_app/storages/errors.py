"""Errors of storages, the only ones that leave this folder.

StorageError
├── ConnectFailed         no connection: name, refused, time-out, handshake
│   └── HungUp            a moment later it may not
├── AuthenticationFailed  the server said no to who we are
├── HostKeyRejected       changed, unknown under `strict`, or not the one that was demanded
├── ConnectionLost        was there, is gone                        (transient)
├── Unavailable           not now: busy, or too many at once       (transient)
├── NotFound              no such file or folder
├── PermissionDenied
├── AlreadyExists
├── NotAFolder / IsAFolder
├── NoSpace               disk full or quota
├── NameRefused           a name from outside that must not be used
├── OutsideRoot           a link leads out of the storage's root
├── AttributesRefused     it is there and whole, but its mode or mtime could not be set
├── SourceChanged         the file is not what was listed any more
└── OperationFailed       anything else the server said

What becomes of a job: AuthenticationFailed and HostKeyRejected fail it. After ConnectionLost, and after ConnectFailed
where there had been a connection before, all goes on with another connection. Transient errors, and those that do not
say what they are (OperationFailed, NoSpace), have their file tried again a few times; all others fail it at once.
"""


class StorageError(Exception):
    """Something a storage could not do. The message is one short sentence for people, without secrets."""

    is_transient = False
    """Whether the same thing may work a moment later."""


class ConnectFailed(StorageError):
    """No connection could be made."""


class HungUp(ConnectFailed):
    """The server closed the connection before it could be used, as one does that has enough of them."""


class AuthenticationFailed(StorageError):
    """The server refused the user name, password or key."""


class HostKeyRejected(StorageError):
    """The server's key is not the one that was pinned or demanded, or is unknown where none may be."""


class ConnectionLost(StorageError):
    """The connection broke."""

    is_transient = True


class Unavailable(StorageError):
    """The server cannot do this now."""

    is_transient = True


class NotFound(StorageError):
    """No such file or folder."""


class PermissionDenied(StorageError):
    """Not allowed."""


class AlreadyExists(StorageError):
    """Something of that name is there already."""


class NotAFolder(StorageError):
    """A file is where a folder should be."""


class IsAFolder(StorageError):
    """A folder is where a file should be."""


class NoSpace(StorageError):
    """The disk is full or the quota used up."""


class NameRefused(StorageError):
    """A name from outside that must not be used."""


class OutsideRoot(StorageError):
    """A link leads out of the storage's root."""


class AttributesRefused(StorageError):
    """Something is there and whole, but its mode or mtime could not be set."""


class SourceChanged(StorageError):
    """The file is not what was listed any more."""


class OperationFailed(StorageError):
    """Anything else that the other side refused."""
