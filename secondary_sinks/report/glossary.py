"""The glossary of the page."""

_ALWAYS = {
    "layer": "Counted from 0. “At layer l” means the residual stream that block l wrote.",
    "attention mass": "Mean attention paid to a token by the queries that can see it, over heads, "
    "in one block. The state at layer l is read by block l + 1, so its mass is measured there.",
    "primary sink": "The most massive of the tokens that draw at least half of the largest "
    "attention; usually the first token.",
    "secondary sink": "A lasting sink along the primary's direction that is neither primary nor "
    "primary-like.",
    "primary-like sink": "A sink in at least 80% of the primary's layers that is created no later "
    "than the primary or is at least half as massive.",
    "transient": "Passes all tests of a sink, but at too few layers in a row, or draws too little "
    "beyond the attention expected at its position. It is not counted as a sink.",
    "typical token": "The mean state of a text's ordinary tokens at a layer.",
    "norm ÷ text median": "Norm of a token's state, divided by the median norm of its text at that "
    "layer.",
    "centred alignment": "Cosine with the primary's state after the typical token is subtracted "
    "from both. 1 is the same direction, 0 is unrelated.",
    "creation layer": "The first layer at which a token is a sink.",
    "lifetime": "Number of layers at which a token is a sink; gaps don't count. A sink must be "
    "outlying, so the lifetime depends on a norm test.",
    "layers outlying, attended": "Number of layers at which a token passes the norm test, and at "
    "which it passes the attention test, each on its own.",
    "level": "Group of sinks with a similar creation layer and lifetime; 0 is the earliest.",
    "cut off": "Where the sink begins (left) or ends (right) is hidden, by the first or last layer "
    "or because no primary is active at the next one, so its lifetime is a lower bound.",
    "peak": "The largest value over a sink's own layers.",
}
_ABLATED = {
    "ablation": "The output of one layer's MLP is edited at one token, and that token is "
    "recomputed in all later layers.",
    "control": "The same edit at an ordinary token of the text: a token twin (the same token where "
    "it is not a sink), or else the nearest ordinary token.",
    "direct effect": "Change in the attention paid to the edited token while the queries of later "
    "tokens are kept as in the clean run.",
    "clean, edited": "Without and with the ablation. Masses, norms and alignments are means over "
    "the sink's layers.",
}


def glossary(ablated: bool) -> dict[str, str]:
    """Terms and their meanings, for a page with or without ablations."""
    return _ALWAYS | (_ABLATED if ablated else {})
