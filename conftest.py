"""At the root, so that `tests` can be imported however pytest was called."""

pytest_plugins = ["tests.no_skips"]
