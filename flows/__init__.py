"""Stories: look, decide, act, write down."""

import logging

# A run started by the engine has no logging of ours set up, and would keep warnings only.
logging.getLogger("roas").setLevel(logging.INFO)
