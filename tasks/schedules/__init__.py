"""Runs of schedules: their record, and what a person hears of them."""
