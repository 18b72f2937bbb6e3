"""Reads for reports and the tasks that store them."""
