"""Monitoring on the real thing: ordinary hours, real faults, and days that are lived through."""
