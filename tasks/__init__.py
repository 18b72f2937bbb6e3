"""Effects, each with its patience."""
