"""Planted models of which the answers of experiments are known."""

import functools

from secondary_sinks.testing.plant_layout import SINK
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import in_some_texts, planted
from tests.questions.gardens import three

STRENGTHS = (60.0, 30.0, 120.0, 45.0, 100.0)
"""In no order along the text, so that places don't tell them."""
FIVE = (10, 18, 26, 34, 42)


def loud(model):
    """Values that grow with the sink direction, and are written nowhere."""
    for block in model.blocks:
        block.attn.W_V.data[:, 0, 7] = 5.0
        block.attn.W_O.data[:, 7] = 0.0


def attend(sign):
    """Attention to the planted tokens that follows their strength, or goes against it."""

    def change(model):
        for block in model.blocks:
            for index, strength in enumerate(STRENGTHS, start=1):
                block.attn.W_K.data[:, 3 + 2 * index, 4] += sign * (strength - 70) / 50

    return change


def mute(model):
    """MLPs that write nothing but what is planted in them."""
    for block in model.blocks:
        block.mlp.W_out.data[len(block.mlp.W_out) - 16 :] = 0.0


def along_everywhere(model):
    """MLPs that write nothing but plants, and at every token a little along the sink direction.

    Too little to make a token a sink: the tokens differ in the norm of it, not in its direction.
    """
    mute(model)
    model.blocks[3].mlp.b_out.data[SINK] += 0.5


def strong(**more):
    return [
        Plant(pos=pos, forming=(3,), strength=strength, **more)
        for pos, strength in zip(FIVE, STRENGTHS, strict=True)
    ]


def dying(deaths):
    pairs = zip(FIVE, STRENGTHS, deaths, strict=True)
    return [Plant(pos=pos, forming=(2,), strength=s, dies=d) for pos, s, d in pairs]


def takes_over():
    """First in the text a weak sink that begins where strong ones later in the text end."""
    strong = [Plant(pos=pos, forming=(2,), dies=8, strength=120.0) for pos in (15, 21, 27, 33)]
    return [Plant(pos=9, forming=(8,), strength=30.0), *strong]


def twice():
    """Four sinks of one layer, and one more where the primary has little left to lose."""
    layers = (6, 6, 6, 6, 16)
    return [Plant(pos=8 + 6 * n, forming=(layer,)) for n, layer in enumerate(layers)]


GARDENS = {
    "plain": lambda: planted(*three(forming=(3,))),
    "five": lambda: planted(*[Plant(pos=pos, forming=(3,)) for pos in FIVE], n_texts=16),
    "none": lambda: planted(),
    "one": lambda: planted(Plant(pos=20, forming=(3,)), n_texts=1),
    "no twins": lambda: planted(*three(forming=(3,)), twins=False),
    "attention": lambda: planted(
        *[
            Plant(pos=pos, forming=(layer,), by="attention")
            for pos, layer in ((12, 3), (24, 4), (36, 5))
        ]
    ),
    "silent": lambda: planted(
        *[Plant(pos=pos, forming=(3,), by="attention") for pos in (12,)], n_texts=8, change=mute
    ),
    "fewer texts": lambda: planted(*three(forming=(3,)), n_texts=3, n_layers=5),
    "along everywhere": lambda: planted(*three(forming=(3,)), change=along_everywhere),
    "loud": lambda: planted(*three(forming=(3,)), change=loud),
    "anisotropic": lambda: planted(*three(forming=(3,)), anisotropy=30.0),
    "followed": lambda: planted(*strong(attended=True), change=attend(1), n_texts=8),
    "shunned": lambda: planted(*strong(attended=True), change=attend(-1), n_texts=8),
    "strong pass longer": lambda: planted(
        *dying((7, 5, 9, 6, 8)), n_texts=8, n_layers=10, by_marks=True
    ),
    "strong live": lambda: planted(*dying((7, 5, 9, 6, 8)), n_texts=8, n_layers=10),
    "strong die": lambda: planted(*dying((7, 9, 5, 8, 6)), n_texts=8, n_layers=10),
    "twice": lambda: planted(*twice(), n_layers=26, n_texts=3),
    "some texts": lambda: in_some_texts(Plant(pos=12, forming=(4,)), Plant(pos=30, forming=(4,))),
    "some texts, turns": lambda: in_some_texts(*takes_over(), n_layers=14),
    "own ways": lambda: planted(*three(forming=(3,), attended=True, strength=120.0)),
    "one alone": lambda: planted(Plant(pos=20, forming=(3,)), n_layers=5),
}


@functools.cache
def garden(name):
    return GARDENS[name]()
