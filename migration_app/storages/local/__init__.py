"""Folders of this machine, below the allowed ones, opened component by component so that no link is ever followed."""

from migration_app.storages.local.storage import LocalStorage

__all__ = ["LocalStorage"]
