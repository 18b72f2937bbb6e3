"""`roas`: commands and rendering. Nothing here decides."""
