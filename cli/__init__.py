"""`roas`: commands and rendering. Nothing here decides."""

import gc

# Imports make many objects and hardly any garbage; at Python's own threshold the collector takes a tenth of the
# time of a command that reads.
gc.set_threshold(20_000, 10, 10)
