"""The broker in front of the Docker engine: reads, checks and rewrites each request."""
