"""Planted models with several texts: the same sinks among other words."""

import torch

from secondary_sinks import detect, observe
from secondary_sinks.testing.planted import Plant, plant

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


class Garden:
    """A planted model, traces of some texts, and the sinks found in them."""

    def __init__(self, *plants, n_texts=8, primary=PRIMARY, change=None, **options):
        """`change`, if there is one, is done to the planted model before any text is observed."""
        self.planted = plant([primary, *plants], **options)
        self.model = self.planted.model
        if change is not None:
            change(self.model)
        self.traces = [
            observe(self.model, tokens, text_id=f"t{number}")
            for number, tokens in enumerate(texts(self.planted, n_texts))
        ]
        self.sinks = detect(self.traces)

    @property
    def asked(self):
        """What every question takes."""
        return self.model, self.traces, self.sinks


def texts(planted, number):
    """The planted text, and others in which ordinary tokens are other ones.

    Marks of plants are at positions, so planted tokens and their twins stay where they are.
    """
    tokens, first = planted.tokens, len(planted.plants)
    low = 16 if first <= 16 else first
    ordinary = tokens >= low
    yield tokens
    for seed in range(1, number):
        chance = torch.Generator().manual_seed(seed)
        other = torch.randint(low, int(tokens.max()) + 1, tokens.shape, generator=chance)
        yield torch.where(ordinary, other, tokens)


def three(**same):
    """Three plants of one kind, which two in five texts make ten sinks."""
    return [Plant(**({"pos": pos} | same)) for pos in (12, 24, 36)]


def outcomes(answer):
    """Outcome by claim."""
    return {verdict.claim: verdict.outcome for verdict in answer.verdicts}
