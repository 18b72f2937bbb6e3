"""Tasks of recovery: actions, records, approval, notifications."""
