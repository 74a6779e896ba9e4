"""Where a model comes from: resolve its name, fetch and check its files, read them."""
