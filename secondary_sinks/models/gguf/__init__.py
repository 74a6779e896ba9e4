"""GGUF files: read the header, convert once, keep the copy sealed."""
