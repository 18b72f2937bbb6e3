"""Decide about reports: success rates, trends, recommendations."""
