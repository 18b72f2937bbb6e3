"""Health probes of running services: one module a kind, and `run_probe`, which finds the service and judges."""
