"""Docker engine and kernel: the only package that imports `docker`."""
