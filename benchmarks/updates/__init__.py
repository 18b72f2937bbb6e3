"""What an update costs, what a client sees of it, and whether it is always proven or back."""
