"""What script/bench runs: whole jobs of the product next to rsync, rclone and cp."""
