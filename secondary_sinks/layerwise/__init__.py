"""A hooked model, one layer at a time: a clean pass in chunks, replayed tokens, continuations.

The only room that knows how the two classes of TransformerLens run a layer.
"""
