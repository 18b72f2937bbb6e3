"""Stories: look, decide, act, write down."""
