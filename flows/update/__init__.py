"""What an update does around the replacement of containers: gate, data, hooks, canary, windows."""
