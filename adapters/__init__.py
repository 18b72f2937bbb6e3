"""Doors: one module per outside thing, speaking our words."""
