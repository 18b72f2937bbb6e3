"""What a sync knows of its source: what it would take, how it went, who pushed, and what it is pinned to."""
