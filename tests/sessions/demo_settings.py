"""The project's settings with the runner that counts in place of the real ones."""

from config.settings import *  # noqa: F403

JOB_RUNNERS = {"demo": "tests.sessions.demo_runner.DemoRunner"}
JOB_SUBMITTERS = {"demo": "tests.sessions.demo_runner.DemoSubmitter"}
