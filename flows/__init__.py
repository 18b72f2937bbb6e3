"""Flows: gather, decide, act, record."""

import logging
import os

# What a run writes (stores, results, evidence) is its user's alone. Every process of ours loads this package: the
# command line, and `python -m prefect.engine`, which a worker starts for each run; their children inherit it.
os.umask(0o077)

# Prefect's client sends usage data to its maker unless this says otherwise; users who want that set it to 0.
os.environ.setdefault("DO_NOT_TRACK", "1")

# A run started by the engine has no logging of ours set up, and would keep warnings only.
logging.getLogger("roas").setLevel(logging.INFO)
