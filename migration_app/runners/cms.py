"""What kind of site a scanned tree holds: reads the few files that tell, never a password."""

import posixpath
from collections.abc import AsyncGenerator
from functools import partial

from migration_app.cms import wordpress
from migration_app.cms.base import Cms
from migration_app.paths import path_text
from migration_app.runners.connections import Route, side_of
from migration_app.storages.base import Reader, Storage, ask
from migration_app.storages.errors import ConnectionLost, StorageError
from sessions_app.runners import Json, ShardContext


def detect_cms(context: ShardContext, marks: set[bytes]) -> Json:
    """The `cms_detection` of the HTTP contract. `marks` are the paths of the tree that tell."""
    root = wordpress.find_root(marks)
    found = _read_wordpress(context, root, marks) if root is not None else None
    if found is None:
        return {
            "detected": False,
            "type": "",
            "root_path": context.params["root"],
            "confidence": 0.0,
            "indicators": [],
        }
    return _as_json(context.params["root"], found)


def _read_wordpress(context: ShardContext, root: bytes, marks: set[bytes]) -> Cms:
    names = [wordpress.below(root, wordpress.VERSION_FILE), wordpress.below(root, wordpress.CONFIG_FILE)]

    async def contents(storage: Storage) -> AsyncGenerator[tuple[bytes, bytes], None]:
        for name in names:
            if name in marks:
                yield name, await _read(storage, name)

    route = Route(context, [side_of(context, "endpoint", "root")], contents)
    texts: dict[bytes, bytes] = {}
    for items in route.lists():
        texts |= items
        context.checkpoint(current={"path": path_text(names[0])})
    return wordpress.describe(root, marks, texts.get(names[0], b""), texts.get(names[1]))


async def _read(storage: Storage, path: bytes) -> bytes:
    """The beginning of a file; nothing where it cannot be read, as a scan is about more than this."""
    try:
        reader: Reader = await ask(partial(storage.open_reader, path))
    except ConnectionLost:
        raise
    except StorageError:
        return b""
    try:
        size = min(wordpress.MOST_READ, storage.capabilities.chunk_size)
        return await ask(partial(reader.read, 0, size))
    except ConnectionLost:
        raise
    except StorageError:
        return b""
    finally:
        reader.close()


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
    return posixpath.join(root, path_text(path)) if path else root
