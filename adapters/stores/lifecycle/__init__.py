"""The lifecycle of records: compress, clean up, archive, optimise, vacuum."""
