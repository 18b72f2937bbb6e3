"""How soon a command answers and a run begins, and what the processes that stay cost."""
