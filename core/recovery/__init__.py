"""Decide about recovery: triage, policy, actions, notifications."""
