"""Effects outside, each retried by its policy."""
