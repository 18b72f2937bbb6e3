"""Tasks of monitoring: sample, probe, listen."""
