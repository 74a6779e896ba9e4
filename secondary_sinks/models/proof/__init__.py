"""Prove: compare a hooked model with its original when it is loaded."""
