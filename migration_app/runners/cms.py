"""What kind of site a scanned tree holds: reads the few files that tell, never a password."""

import posixpath
from collections.abc import AsyncGenerator
from functools import partial

from migration_app import manifest
from migration_app.cms import systems
from migration_app.cms.base import Cms, System
from migration_app.cms.php import MOST_READ
from migration_app.paths import path_shown
from migration_app.runners.connections import Route, side_of
from migration_app.storages.base import Reader, Storage, ask
from migration_app.storages.errors import ConnectionLost, StorageError
from sessions_app.runners import Json, ShardContext

Site = tuple[System, bytes]
"""A system and its folder."""


def detect_cms(context: ShardContext, site: Site | None, marks: set[bytes]) -> Json:
    """The `cms_detection` of the HTTP contract. `marks` are the paths of the tree that tell."""
    if site is None:
        return {
            "detected": False,
            "type": "",
            "root_path": context.params["root"],
            "confidence": 0.0,
            "indicators": [],
        }
    system, root = site
    wanted = systems.files_to_read(system, root, marks)
    rows = manifest.find(context.job_id, wanted)
    followed = {path: manifest.entry_of(row).read_path for path, row in rows.items()}
    contents = _contents(context, {path: followed.get(path, path) for path in wanted})
    return _as_json(context.params["root"], systems.describe(system, root, marks, contents))


def _contents(context: ShardContext, paths: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The beginnings of files, by path; `paths` says by which other path each is read."""
    found: dict[bytes, bytes] = {}
    if not paths:
        return found

    async def read(storage: Storage) -> AsyncGenerator[tuple[bytes, bytes], None]:
        for path, read_path in paths.items():
            if path not in found:
                yield path, await read_beginning(storage, read_path)

    for items in Route(context, [side_of(context, "endpoint", "root")], read).lists():
        found.update(items)
        context.checkpoint(current={"path": path_shown(items[-1][0])} if items else None)
    return found


async def read_beginning(storage: Storage, path: bytes) -> bytes:
    """The first `MOST_READ` bytes; nothing where a file cannot be read, as a scan is about more than this."""
    found = b""
    try:
        reader: Reader = await ask(partial(storage.open_reader, path))
    except ConnectionLost:
        raise
    except StorageError:
        return found
    try:
        while len(found) < MOST_READ:
            size = min(MOST_READ - len(found), storage.capabilities.chunk_size)
            data = await ask(partial(reader.read, len(found), size))
            found += data
            if len(data) < size:
                break
    except ConnectionLost:
        raise
    except StorageError:
        return b""
    finally:
        reader.close()
    return found


def _as_json(root: str, found: Cms) -> Json:
    json: Json = {
        "detected": True,
        "type": found.type,
        "version": found.version,
        "root_path": _absolute(root, found.root),
        "confidence": found.confidence,
        "indicators": found.indicators,
    }
    if found.config_file is not None:
        json["config_file"] = _absolute(root, found.config_file)
    if found.database is not None:
        database = found.database
        json["database_config"] = {
            "host": database.host,
            "port": database.port,
            "database": database.name,
            "username": database.username,
            "password": "",
            "prefix": database.prefix,
        }
    return json


def _absolute(root: str, path: bytes) -> str:
    return posixpath.join(root, path_shown(path)) if path else root
