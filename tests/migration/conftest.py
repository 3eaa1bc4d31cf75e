from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from sessions_app import accounts
from sessions_app.models import User


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.owner()


@pytest.fixture
def api(owner: User) -> Client:
    return Client(headers={"Authorization": f"Bearer {accounts.create_token(owner)}"})


@pytest.fixture
def post(api: Client) -> Callable[..., Any]:
    def post(path: str, body: Any, **headers: str) -> Any:
        return api.post(path, body, content_type="application/json", headers=headers)

    return post
