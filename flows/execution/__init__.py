"""Start and replace containers in order, prove them, and go back from what failed; shared by all operations."""
