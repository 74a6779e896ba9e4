"""Planted models as experiments are given them."""

import functools
from copy import deepcopy
from dataclasses import replace

import torch

from experiments.shared import observe_fed
from secondary_sinks.testing.planted import plant
from secondary_sinks.texts import TokenizedText
from tests.questions.gardens import PRIMARY, texts


def planted(*plants, n_texts=8, primary=PRIMARY, change=None, **options):
    """What experiments are given: several texts with the same plants. `change(model)` edits it.

    The same is observed once; the model is a copy that a test may change.
    """
    if change:
        return _observed((primary, *plants), n_texts, change, options)
    seen = _seen((primary, *plants), n_texts, tuple(sorted(options.items())))
    return replace(seen, model=deepcopy(seen.model))


@functools.cache
def _seen(plants, n_texts, options):
    return _observed(plants, n_texts, None, dict(options))


def _observed(plants, n_texts, change, options):
    garden = plant(plants, **options)
    if change:
        change(garden.model)
    fed = [
        TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed="")
        for number, tokens in enumerate(texts(garden, n_texts))
    ]
    return observe_fed(garden.model, fed)


def in_some_texts(*plants, n_with=7, n_without=7, **options):
    """Planted words stand one place later in each text of the first half, nowhere in the second."""
    garden = plant([PRIMARY, *plants], positions="rotary", content_queries=True, **options)
    fed = []
    for number in range(n_with + n_without):
        chance = torch.Generator().manual_seed(number)
        tokens = torch.randint(16, 32, garden.tokens.shape, generator=chance)
        tokens[PRIMARY.pos] = garden.tokens[PRIMARY.pos]
        for one in plants if number < n_with else ():
            tokens[one.pos + number] = garden.tokens[one.pos]
        fed.append(TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed=""))
    return observe_fed(garden.model, fed)


def begin_alike(observed, n_alike):
    """The same texts, but the first tokens of each are those of the first text."""
    first = observed.texts[0].tokens[:n_alike]
    fed = [
        replace(text, tokens=torch.cat([first, text.tokens[n_alike:]])) for text in observed.texts
    ]
    return observe_fed(observed.model, fed)
