"""The Prometheus exporter and its metric families."""
