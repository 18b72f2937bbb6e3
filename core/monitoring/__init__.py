"""Decide about health: measurements, baselines, anomalies, alerts, forecasts, scores."""
