"""What all tests share."""

import pytest
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.db.models.signals import post_migrate

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture(scope="session", autouse=True)
def no_ssh_agent_of_who_runs_the_tests_is_asked() -> None:
    """Tests that want an agent start one."""
    settings.SSH_AGENT = ""


@pytest.fixture(scope="session", autouse=True)
def nothing_is_prepared_that_no_test_asks_for() -> None:
    """Every test client looked for all static files, every emptied database got its rows of permissions again.

    That was half the time of the tests of pages and API. Servers that tests start are processes of their own,
    and prepare both.
    """
    settings.STATICFILES_FINDERS = []
    post_migrate.disconnect(
        create_permissions, dispatch_uid="django.contrib.auth.management.create_permissions"
    )
    post_migrate.disconnect(create_contenttypes)
