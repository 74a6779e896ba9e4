"""Planted models as experiments are given them."""

from experiments.shared import observe_fed
from secondary_sinks.models.planted import plant
from secondary_sinks.texts import TokenizedText
from tests.questions.gardens import PRIMARY, texts


def planted(*plants, n_texts=8, primary=PRIMARY, change=None, **options):
    """What experiments are given: several texts with the same plants. `change(model)` edits it."""
    garden = plant([primary, *plants], **options)
    if change:
        change(garden.model)
    fed = [
        TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed="")
        for number, tokens in enumerate(texts(garden, n_texts))
    ]
    return observe_fed(garden.model, fed)
