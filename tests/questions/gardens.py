"""Planted models with several texts: the same sinks among other words."""

import functools
from copy import deepcopy
from dataclasses import replace

import torch

from secondary_sinks import detect, observe
from secondary_sinks.testing.planted import Plant, plant

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


class Garden:
    """A planted model, traces of some texts, and the sinks found in them.

    Traces that an equal garden has already are taken from it; the model is a copy of its own, which
    a test may change.
    """

    def __init__(self, *plants, n_texts=8, primary=PRIMARY, change=None, **options):
        """`change`, if there is one, is done to the planted model before any text is observed."""
        if change is None:
            grown = _grown((primary, *plants), tuple(sorted(options.items())))
            self.planted = replace(grown.planted, model=deepcopy(grown.planted.model))
            self.traces, self.sinks = grown.seen(n_texts)
        else:
            self.planted = plant([primary, *plants], **options)
            change(self.planted.model)
            self.traces = list(_observed(self.planted, n_texts))
            self.sinks = detect(self.traces)
        self.model = self.planted.model

    @property
    def asked(self):
        """What every question takes."""
        return self.model, self.traces, self.sinks


@functools.cache
def _grown(plants, options):
    return _Grown(plant(plants, **dict(options)))


class _Grown:
    """A planted model and all traces that were asked of it so far."""

    def __init__(self, planted):
        self.planted, self._traces, self._sinks = planted, [], {}

    def seen(self, number):
        """The traces of the first texts, and their sinks."""
        if number > len(self._traces):
            self._traces += _observed(self.planted, number, start=len(self._traces))
        if number not in self._sinks:
            self._sinks[number] = detect(self._traces[:number])
        return self._traces[:number], self._sinks[number]


def _observed(planted, number, start=0):
    """Traces of the texts from `start` on; those of a number of texts begin those of more."""
    for index, tokens in enumerate(texts(planted, number)):
        if index >= start:
            yield observe(planted.model, tokens, text_id=f"t{index}")


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
