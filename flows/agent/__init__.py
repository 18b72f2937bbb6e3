"""The process that watches environments and runs what is due: as a worker, or within `roas serve`."""
