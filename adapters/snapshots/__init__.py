"""Snapshots of data: restic's repository, and streams between it and containers."""
