"""Statistics and text functions that several shelves use."""
