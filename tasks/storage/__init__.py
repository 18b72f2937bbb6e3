"""Tasks of the data life cycle."""
