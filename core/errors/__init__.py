"""Decide about errors: match, classify, impact, evidence, explain, redact."""
