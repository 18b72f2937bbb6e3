"""A process that has imported the flows, whose forks run commands at once."""
