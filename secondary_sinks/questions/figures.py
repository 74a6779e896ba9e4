"""Figures of the answers to causal questions, as data that a page draws."""

import math
from typing import Any

import pandas as pd

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.question import Drawing, Shown

DOTS = "Whiskers are exact intervals over texts, at 95% for all claims of the page together."
PATCHED = {
    "denoising": (
        "What the sink's MLP wrote, put into its control token",
        "Each row is a secondary sink, strongest first. The output of one layer's MLP at the sink "
        "is put into its control token (a token twin, else a neighbour); colour is the lifetime "
        "that this token then has as a sink, in lifetimes of the sink. Beside it: all forming MLPs "
        "together, and as a control the outputs of ordinary tokens at the same MLPs.",
    ),
    "noising": (
        "What the control token's MLP wrote, put into the sink",
        "The reverse: the control token's MLP output is put into the sink; colour is the share of "
        "its lifetime that the sink loses. Grey cells are patched after the sink's last layer and "
        "could not take any. Next to it: all forming MLPs together, and as a control as many other "
        "MLPs at the same sink that could have ended it.",
    ),
}


def necessity(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that end, and attention lost beyond controls, by layer and way to ablate."""
    effects = answer.effects
    if effects.empty:
        return []
    parts = [
        in_long_form(effects, "ended", "edit", "layer", ("removed", "removed_low", "removed_high")),
        in_long_form(effects, "lost", "edit", "layer", ("lost", "low", "high")),
    ]
    frame = pd.concat(parts, ignore_index=True)
    first = frame["group"] == effects["edit"].iloc[0]
    frame[["low", "high"]] = frame[["low", "high"]].where(first)
    titles = {
        "ended": ("share of sinks that end", "linear"),
        "lost": ("mass lost beyond controls", "linear"),
    }
    options = {"panels": titles, "x_title": "layer of the ablated MLP", "height": 230}
    caption = (
        "Every MLP ablated alone, in each way: by nothing (zero), by its mean over the text's "
        "ordinary tokens, by its output at random ordinary tokens, by its mean at the same token "
        "elsewhere, where it is no sink. The band is the interval of the "
        "first way over texts, at 95% for all claims together; the others are in the data. Of each "
        "layer those sinks are counted that it could have ended; there are none above the last "
        "creation layer."
    )
    return [
        Drawing(
            name="ways",
            title="Ways to ablate",
            caption=caption,
            plot="lines",
            frame=frame,
            options=options,
            table=effects,
        )
    ]


def sufficiency(answer: Answer, shown: Shown) -> list[Drawing]:
    """Heat maps of patches into controls and into sinks, each next to its own controls."""
    options = {"sinks": shown.sinks, "n_layers": shown.n_layers}
    return [
        Drawing(
            name=patch,
            title=title,
            caption=caption,
            plot="patches",
            frame=answer.cells,
            options={**options, "patch": patch},
        )
        for patch, (title, caption) in PATCHED.items()
        if (answer.cells["patch"] == patch).any()
    ]


def redistribution(answer: Answer, shown: Shown, *, line: float) -> list[Drawing]:
    """Where the attention of a removed sink goes, by receiver."""
    names = {"primary": "the primary", "others": "other sinks", "rest": "all other tokens"}
    effects = answer.effects.replace({"receiver": names})
    if effects.empty:
        return []
    frame = as_dots(effects, "receiver", "edit", ("beyond", "low", "high"))
    options = {"axis": "share of freed attention beyond proportional", "line": line}
    caption = (
        "One secondary sink removed at a time, everything after it computed anew: the share of the "
        "attention it leaves that goes to the primary, to other sinks and to the rest, less the "
        "share that a softmax gives them when the sink's key alone is exchanged; medians over "
        f"texts. 0 is proportional. {DOTS} The verdict was held against the dotted line."
    )
    caption += _damage(answer.tables.get("damage"))
    return [
        Drawing(
            name="redistribution",
            title="Where the attention goes",
            caption=caption,
            plot="dots",
            frame=frame,
            options=options,
            table=answer.effects,
        )
    ]


def _damage(table: pd.DataFrame | None) -> str:
    """Effect on the predictions of removing one sink, or the same edit at its control."""
    if table is None or table.empty:
        return ""
    first = table[table["edit"] == table["edit"].iloc[0]]
    words = [
        f"at {'a sink' if row['role'] == 'sink' else 'its control'} KL {row['kl_at_token']:.2g} "
        f"nats there and {row['loss_later']:+.2g} nats of loss per later token"
        for row in first.to_dict("records")
    ]
    return f" Damage by {first['edit'].iloc[0]}, medians: {'; '.join(words)}."


def sparsity(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that remain, by the number of neurons that are zeroed, or kept."""
    names = {
        "top": "top neurons", "random": "random neurons", "control": "top ones, at control tokens",
    }  # fmt: skip
    effects = answer.effects.replace({"neurons": names})
    if effects.empty:
        return []
    whole = effects[effects["n_sinks"] == effects["n_sinks"].max()].sort_values("k", kind="stable")
    frame = in_long_form(whole.assign(none=math.nan), "", "neurons", "k", ("sink", "none", "none"))
    frame = frame.assign(panel=whole["test"].tolist()).sort_values(
        "group", key=lambda group: group.map(list(names.values()).index), kind="stable"
    )
    titles = {
        "without": ("sinks left without k", "linear"),
        "only": ("sinks left with k only", "linear"),
    }
    options = {"panels": titles, "x_title": "k neurons", "x_scale": "log", "height": 210}
    caption = (
        "Neurons of the forming MLPs in the order of what they write along the primary's "
        "direction. Above: the first k are zeroed. Below: all but the first k are. Beside them as "
        "many random neurons of the same MLPs. Shares of all sinks; intervals are in the data."
    )
    return [
        Drawing(
            name="neurons",
            title="How few neurons",
            caption=caption,
            plot="lines",
            frame=frame,
            options=options,
            table=answer.effects,
        )
    ]


def restoration(answer: Answer, shown: Shown) -> list[Drawing]:
    """Attention that the primary regains when the first secondary sink of a text is removed."""
    effects = answer.effects
    if effects.empty:
        return []
    bare = effects.assign(none=math.nan)
    parts = [
        as_dots(bare.assign(row="had changed by"), "row", "edit", ("change", "none", "none")),
        as_dots(effects.assign(row="is given back"), "row", "edit", ("gained", "low", "high")),
    ]
    caption = (
        "The first secondary sink of each text is removed at its forming MLPs. Above: how the "
        "attention that queries after it pay to the primary had changed at its creation layer, "
        "less that of queries before it; below: what they pay more without it, less the same for "
        f"its control token; means over texts. {DOTS}"
    )
    return [
        Drawing(
            name="restoration",
            title="What the primary gets back",
            caption=caption,
            plot="dots",
            frame=pd.concat(parts),
            options={"axis": "attention paid to the primary", "line": 0.0},
            table=effects,
        )
    ]


def harm(answer: Answer, shown: Shown, *, line: float) -> list[Drawing]:
    """Rise of the loss without the sinks, and with the same edit at as many ordinary tokens."""
    effects = answer.effects
    if effects.empty:
        return []
    bare = effects.assign(none=math.nan)
    parts = [
        as_dots(bare.assign(row="without the sinks"), "row", "edit", ("sinks", "none", "none")),
        as_dots(
            bare.assign(row="without as many others"), "row", "edit", ("controls", "none", "none")
        ),
        as_dots(effects.assign(row="difference"), "row", "edit", ("beyond", "low", "high")),
    ]
    frame, options = pd.concat(parts), {"axis": "rise of the loss (share of it)", "line": line}
    caption = (
        "All secondary sinks of a text removed at once, against as many ordinary tokens' MLP "
        f"outputs; medians over texts. Clean loss: {effects['loss_clean'].iloc[0]:.3f} nats per "
        f"token. {DOTS} Dotted: one hundredth of the clean loss."
    )
    return [
        Drawing(
            name="harm",
            title="What it costs",
            caption=caption,
            plot="dots",
            frame=frame,
            options=options,
            table=effects,
        )
    ]


def in_long_form(
    effects: pd.DataFrame, name: str, group: str, x: str, values: tuple[str, str, str]
) -> pd.DataFrame:
    """Rows for a figure of lines."""
    value, low, high = (effects[column].tolist() for column in values)
    columns: dict[str, Any] = {"panel": name, "group": effects[group].tolist()}
    columns |= {"x": effects[x].tolist(), "value": value, "low": low, "high": high}
    return pd.DataFrame(columns)


def as_dots(
    effects: pd.DataFrame, row: str, series: str, values: tuple[str, str, str]
) -> pd.DataFrame:
    """Rows for a figure of dots."""
    value, low, high = (effects[column].tolist() for column in values)
    columns = {"row": effects[row].tolist(), "series": effects[series].tolist()}
    return pd.DataFrame(columns | {"value": value, "low": low, "high": high})
