"""The page in a browser: what runs, what is wrong and why, read as the commands read it."""
