"""The fault campaign: real faults on a real engine, each told truly and undone."""
