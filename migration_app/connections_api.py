"""`/api/connections`: stored connections over HTTP."""

from typing import Any

from django.http import Http404
from rest_framework import status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from migration_app import connections, endpoints
from migration_app.models import Endpoint
from migration_app.secrets import CannotOpen
from migration_app.storages.errors import StorageError
from sessions_app import listing
from sessions_app.problems import refuse_fields


class Unreachable(APIException):
    """The other side cannot be reached or lets nobody in; the sentence says why."""

    # As for what else is wrong with a request: a 5xx would say that Haulier itself failed.
    status_code = status.HTTP_400_BAD_REQUEST


class ConnectionViewSet(viewsets.ViewSet):
    """The caller's stored connections; everybody else's do not exist."""

    def list(self, request: Request) -> Response:
        """A page of them, newest first."""
        found, headers = listing.page_by_id(
            request, connections.of(_user(request)), connections.connection_json
        )
        return Response(found, headers=headers)

    def create(self, request: Request) -> Response:
        """201 and the connection."""
        stored = connections.create(_user(request), request.data)
        return Response(connections.connection_json(stored), status=201)

    def retrieve(self, request: Request, connection_id: str) -> Response:
        """One of them."""
        return Response(connections.connection_json(_stored(request, connection_id)))

    def update(self, request: Request, connection_id: str, *, is_partial: bool = False) -> Response:
        """Replace its fields; an empty secret keeps the stored one."""
        stored = _stored(request, connection_id)
        changed = connections.update(_user(request), stored, request.data, is_partial=is_partial)
        return Response(connections.connection_json(changed))

    def partial_update(self, request: Request, connection_id: str) -> Response:
        """Change the fields that are given."""
        return self.update(request, connection_id, is_partial=True)

    def destroy(self, request: Request, connection_id: str) -> Response:
        """Delete it, unless a job that is not finished uses it."""
        connections.delete(_stored(request, connection_id))
        return Response({"message": "Connection deleted"})

    def test(self, request: Request, connection_id: str) -> Response:
        """ProbeResult."""
        stored = _stored(request, connection_id)
        refuse_fields(request)
        return Response(connections.try_out(_user(request), stored))

    def browse(self, request: Request, connection_id: str) -> Response:
        """What one folder holds."""
        stored = _stored(request, connection_id)
        listing.refuse_unknown(request.query_params, ("path",))
        try:
            folder = connections.browse(_user(request), stored, request.query_params.get("path", ""))
        except (StorageError, CannotOpen) as error:
            raise Unreachable(str(error)) from error
        return Response(connections.folder_json(folder))


def _user(request: Request) -> Any:
    return request.user


def _stored(request: Request, connection_id: str) -> Endpoint:
    found = endpoints.find_stored(_user(request), connection_id)
    if found is None:
        raise Http404
    return found
