"""Decide about recovery: triage, policy, actions, tickets."""
