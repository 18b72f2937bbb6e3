"""Tasks about errors: evidence and redaction."""
