"""The Prefect server, deployments, worker and signals."""
