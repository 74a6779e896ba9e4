"""Sweeps over a planted model and three texts that differ before its sink."""

from secondary_sinks import sweeps
from secondary_sinks.sweeps import ModelSpec, SweepConfig
from secondary_sinks.testing import Plant, plant
from secondary_sinks.texts import TokenizedText

SPEC = ModelSpec(name="planted")
ZERO = SweepConfig(models=(SPEC,), edits=("zero",), layers=(1, 2))


def garden(seed=0):
    plants = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=12, forming=(2,))]
    return plant(plants, n_layers=4, n_pos=48, seed=seed)


PLANTED = garden()


def text(number, tokens=PLANTED.tokens):
    changed = tokens.clone()
    changed[2:11] = tokens[2:11].roll(number)
    return TokenizedText(text_id=f"t{number}", tokens=changed, feed="raw", fed="as planted")


TEXTS = [text(number) for number in range(3)]


def sweep(out, config=ZERO, texts=TEXTS, models=None, **options):
    return sweeps.sweep(
        config, out, texts=texts, models=models or {"planted": PLANTED.model}, **options
    )


def tables(folder):
    return {name: (folder / f"{name}.parquet").read_bytes() for name in ("sinks", "effects")}
