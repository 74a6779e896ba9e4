"""Is the hooked model equal to its original? Compared when it is loaded."""
