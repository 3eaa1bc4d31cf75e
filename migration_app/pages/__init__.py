"""The pages: server-rendered, live where a script runs, complete where none does."""

from migration_app.pages.frame import frame_context as frame

__all__ = ["frame"]
