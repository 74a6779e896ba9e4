"""The original of a model: resolve its name, fetch and check its files, read them."""
