"""Docker Compose: its command line and the files it reads."""
