"""Tests, and what they run on."""

import os

import flows  # noqa: F401 - it sets the umask of our processes

# Tests write files for containers that run as other users, and ours must be private under any umask.
os.umask(0o022)
