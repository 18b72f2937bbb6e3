"""Decide about stored data: retention, audit log, store incidents."""
