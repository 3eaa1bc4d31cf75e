"""The product with the runner that counts in place of the real ones."""

import json
from pathlib import Path
from typing import Any

from tests.product import Product

_SUBMIT = """
import sys, json
from sessions_app import accounts, jobs
from sessions_app.models import User
from sessions_app.runners import Submission
name, params = sys.argv[1], json.loads(sys.argv[2])
owner = User.objects.get_or_create(username=name)[0] if name else accounts.owner()
job, _ = jobs.submit(Submission("demo", owner.pk, "t", params, {}))
print(job.pk)
"""


class Engine(Product):
    """Real processes, and jobs that last as long as they are told to."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, settings="tests.sessions.demo_settings", **environment)

    def submit(self, *, user: str = "", **params: Any) -> str:
        """A new job of the owner or of somebody else; its id."""
        self.migrate()
        return self.python("-c", f"import django; django.setup()\n{_SUBMIT}", user, json.dumps(params))

    def progress(self, job_id: str) -> int:
        """How far it has counted."""
        return int((self.job(job_id)["progress"] or {}).get("done", 0))
