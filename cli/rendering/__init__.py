"""Render results as text or JSON."""
