"""GGUF files: checked, converted once to Hugging Face format, and cached with checksums."""
