"""What script/killtest runs: the real product, whose processes are killed at random, and what must hold."""
