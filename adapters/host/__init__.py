"""The host: files, processes, locks, ports, load, scripts."""
