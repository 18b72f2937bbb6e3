"""Configuration files: environments, YAML, secrets."""
