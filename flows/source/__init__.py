"""What a sync knows of its git repository: what it would take, how it went, who pushed, and what it is pinned to."""
