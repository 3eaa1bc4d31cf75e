"""A connection tried out for somebody who waits: from a request to the ProbeResult of the HTTP contract."""

from typing import Any

from migration_app import endpoints, secrets
from migration_app.engine.probe import Probe, probe_storage, verdict
from migration_app.models import Endpoint
from migration_app.serializers import ConnSerializer
from migration_app.storages.base import HostKey, HostKeyPolicy
from migration_app.storages.errors import HostKeyRejected, StorageError
from migration_app.visits import visit
from sessions_app.fields import validated
from sessions_app.models import User

Json = dict[str, Any]


def probe(user: User, data: Any) -> Json:
    """ProbeResult for a Conn; an unknown host key is pinned. Raises ValidationError, visits.Busy."""
    config = validated(ConnSerializer, user, data)
    return probe_endpoint(user, endpoints.unsaved(user.pk, config), config["root_path"])


def probe_endpoint(user: User, endpoint: Endpoint, root: str, *, asks_first: bool = False) -> Json:
    """ProbeResult for an endpoint, written or not; `asks_first` refuses an unknown host key. Raises visits.Busy."""
    try:
        side = endpoints.side_at(endpoint, root, asks_first=asks_first)
    except secrets.CannotOpen as error:
        return _result(endpoint.protocol, root, Probe(error=StorageError(str(error))), {})
    found = visit(user, side, probe_storage)
    address, trace = side.address, found.trace
    keys = {"host_key": _key_json(address.host_keys, trace.host_key)}
    if address.jump is not None:
        keys["jump_host_key"] = _key_json(address.jump.host_keys, trace.jump_host_key)
    if found.error is None:
        try:
            for server, key in side.unpinned(trace):
                endpoints.pin(server, key)
        except HostKeyRejected as error:
            found.error = error
    return _result(endpoint.protocol, root, found, keys)


def _key_json(policy: HostKeyPolicy, key: HostKey | None) -> Json | None:
    if key is None:
        return None
    wanted = policy.demanded or policy.pinned
    status = "new" if wanted is None else "known" if wanted == key.fingerprint else "changed"
    return {"algorithm": key.algorithm, "fingerprint": key.fingerprint, "status": status}


def _result(protocol: str, root: str, found: Probe, keys: dict[str, Json | None]) -> Json:
    features = found.features
    result: Json = {
        "success": found.error is None,
        "protocol": protocol,
        "verdict": verdict(found, root),
        "badges": _badges(protocol, found),
        "stages": [
            {
                "name": stage.name,
                "state": stage.state,
                "duration_ms": _ms(stage.duration_s),
                "message": stage.message,
            }
            for stage in found.stages
        ],
        "capabilities": {
            "shell_available": features.has_shell,
            "compression_types": list(features.compression_types),
            "mlsd_supported": False,
            "fxp_allowed": False,
            "can_read": found.can_read,
            "can_write": found.can_write,
            "can_list": found.can_list,
            "extensions": list(features.extensions),
        },
        "performance": {
            "latency": round(found.latency_s * 1e9),
            "latency_ms": _ms(found.latency_s),
            "upload_speed": round(found.upload_bps / 1e6, 3),
            "download_speed": round(found.download_bps / 1e6, 3),
            "connection_time": round(found.connection_s * 1e9),
            "connection_time_ms": _ms(found.connection_s),
        },
    }
    if found.error is not None:
        result["error_message"] = str(found.error)
    if features.sftp_version is not None:
        result["capabilities"]["sftp_version"] = features.sftp_version
    result |= {name: key for name, key in keys.items() if key is not None}
    return result


def _badges(protocol: str, found: Probe) -> list[str]:
    if found.error is not None:
        return []
    version = f" {found.features.sftp_version}" if found.features.sftp_version is not None else ""
    have = {
        "This machine" if protocol == "local" else f"{protocol.upper()}{version}": True,
        "Lists": found.can_list,
        "Reads": found.can_read,
        "Writes": found.can_write,
        "Shell": found.features.has_shell,
        "Atomic rename": "posix-rename@openssh.com" in found.features.extensions,
        "Flushes to disk": "fsync@openssh.com" in found.features.extensions,
    }
    return [name for name, is_there in have.items() if is_there]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
