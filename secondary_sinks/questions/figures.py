"""Figures of the answers to causal questions, as data that a page draws."""

from collections.abc import Sequence

import pandas as pd

from secondary_sinks.display import rounded
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.question import Drawing, Shown, one_drawing

DOTS = "Whiskers are exact intervals over texts, jointly at 95% for all claims of the page."
PATCHED = {
    "denoising": (
        "The sink's MLP output, patched into its control token",
        "Each row is a secondary sink, strongest first. The output of one layer's MLP at the sink "
        "is patched into its control token (a token twin, else a neighbour); colour is the "
        "lifetime that this token then has as a sink, divided by that of the sink. At the right: "
        "the MLP of the creation layer, as a control its outputs at ordinary tokens, and all "
        "forming MLPs together.",
    ),
    "noising": (
        "The control token's MLP output, patched into the sink",
        "The reverse: the control token's MLP output is patched into the sink; colour is the share "
        "of its lifetime that the sink loses. Grey cells are patched after the sink's last layer, "
        "too late to shorten its life. At the right: all forming MLPs together and, as a control, "
        "the same number of other MLPs at the same sink that could have ended it.",
    ),
}


def necessity(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that end, and attention lost beyond controls, by layer and way to ablate."""
    effects = answer.effects
    parts = [
        in_long_form(effects, "ended", "edit", "layer", ("removed", "removed_low", "removed_high")),
        in_long_form(effects, "lost", "edit", "layer", ("lost", "low", "high")),
    ]
    frame = pd.concat(parts, ignore_index=True)
    first = frame["group"] == effects["edit"].iloc[0]
    frame[["low", "high"]] = frame[["low", "high"]].where(first)
    titles = {
        "ended": ("share of sinks that end", "linear"),
        "lost": ("mass lost<br>beyond controls", "linear"),
    }
    options = {"panels": titles, "x_title": "layer of the ablated MLP", "height": 180}
    caption = (
        "Every MLP ablated alone: its output replaced by zero, by its mean over the text's "
        "ordinary tokens (mean), by its output at random ordinary tokens (resample), or by its "
        "mean at the same token elsewhere, where that is not a sink (mean:twins). The band is the "
        "interval over "
        "texts of the first way, jointly at 95% for all claims; the other intervals are in the "
        "data. Each layer is judged on the sinks that it could have ended: those created at this "
        "layer or later."
    )
    return one_drawing("lines", "ways", "Ways to ablate", caption, frame, effects, options=options)


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
    frame = as_dots(effects, effects["receiver"], ("beyond", "low", "high"))
    options = {"axis": "share of freed attention above its proportional share", "line": line}
    caption = (
        "One secondary sink is removed at a time, and everything after it recomputed. Shown is the "
        "share of the freed attention that goes to the primary, to other sinks and to all other "
        "tokens, minus the share that the softmax alone gives them when only the sink's key is "
        f"replaced; medians over texts. 0 is proportional. {DOTS} Dotted: threshold of the verdict."
    )
    caption += _damage(answer.tables.get("damage"))
    return one_drawing(
        "dots",
        "redistribution",
        "Where a removed sink's attention goes",
        caption,
        frame,
        answer.effects,
        options=options,
    )


def _damage(table: pd.DataFrame | None) -> str:
    """Effect on the predictions of removing one sink, or the same edit at its control."""
    if table is None or table.empty:
        return ""
    first = table[table["edit"] == table["edit"].iloc[0]]
    words = [
        f"at {'a sink' if row['role'] == 'sink' else 'its control'}, KL "
        f"{rounded(row['kl_at_token'], 2)} "
        f"nats at the token and {row['loss_later']:+.2g} nats of loss per later token"
        for row in first.to_dict("records")
    ]
    return f" Damage to predictions by {first['edit'].iloc[0]}, medians: {'; '.join(words)}."


def sparsity(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that remain, by the number of neurons that are zeroed, or kept."""
    names = {
        "top": "top neurons", "random": "random neurons",
        "control": "top neurons, at control tokens",
    }  # fmt: skip
    effects = answer.effects.replace({"neurons": names})
    effects = effects[effects["edit"] == "zero"]
    whole = effects[effects["n_sinks"] == effects["n_sinks"].max()].sort_values("k", kind="stable")
    whole = whole.sort_values(
        "neurons", key=lambda group: group.map(list(names.values()).index), kind="stable"
    )
    caption = (
        "Neurons of the forming MLPs, sorted by how much they write along the primary's direction. "
        "Above: the first k are zeroed. Below: all but the first k are zeroed. Compared with the "
        "same number of random neurons of the same MLPs. Shares of all sinks; intervals, and the "
        "neurons set to their mean at the same token elsewhere, are in the data."
    )
    return by_size(whole, "neurons", "sink", "zeroed", caption, answer.effects)


def by_size(
    shares: pd.DataFrame, noun: str, value: str, edited: str, caption: str, table: pd.DataFrame
) -> list[Drawing]:
    """Lines of the share of sinks that stay, by the number k of units that are edited, or kept."""
    frame = in_long_form(shares, "", noun, "k", (value,)).assign(panel=shares["test"].tolist())
    titles = {
        "without": (f"share of sinks that<br>stay, k {edited}", "linear"),
        "only": ("share of sinks that<br>stay, only k kept", "linear"),
    }
    options = {"panels": titles, "x_title": f"number of {noun} k", "x_scale": "log", "height": 180}
    return one_drawing("lines", noun, f"Number of {noun}", caption, frame, table, options=options)


def restoration(answer: Answer, shown: Shown) -> list[Drawing]:
    """Attention that the primary regains when the first secondary sink of a text is removed."""
    effects = answer.effects
    parts = [
        as_dots(effects, "change in the clean run", ("change",)),
        as_dots(effects, "regained without the sink", ("gained", "low", "high")),
    ]
    caption = (
        "The first secondary sink of each text is removed at its forming MLPs. Above: in the clean "
        "run, the change at its creation layer of the attention that later queries pay to the "
        "primary, minus that of earlier queries. Below: how much more later queries pay to the "
        f"primary without the sink, minus the same for its control; medians over texts. {DOTS}"
    )
    return one_drawing(
        "dots",
        "restoration",
        "Attention the primary regains",
        caption,
        pd.concat(parts),
        effects,
        options={"axis": "attention paid to the primary", "line": 0.0},
    )


def harm(answer: Answer, shown: Shown, *, line: float) -> list[Drawing]:
    """Rise of the loss without the sinks, and with the same edit at as many ordinary tokens."""
    effects = answer.effects
    parts = [
        as_dots(effects, "without the sinks", ("sinks",)),
        as_dots(effects, "without ordinary tokens' MLP outputs", ("controls",)),
        as_dots(effects, "difference", ("beyond", "low", "high")),
    ]
    frame = pd.concat(parts)
    options = {"axis": "rise of the loss (share of the clean loss)", "line": line}
    caption = (
        "All removable sinks of a text removed at once, compared with removing the MLP outputs of "
        "the same number of ordinary tokens; medians over texts. Clean loss: "
        f"{effects['loss_clean'].iloc[0]:.3f} nats per token. {DOTS} Dotted: one hundredth of the "
        "clean loss."
    )
    return one_drawing("dots", "harm", "Harm to the loss", caption, frame, effects, options=options)


def in_long_form(
    effects: pd.DataFrame, name: str, group: str, x: str, values: Sequence[str]
) -> pd.DataFrame:
    """Rows for a figure of lines; `values` are columns of a value and, if it has some, its ends."""
    columns = pd.DataFrame({"panel": name, "group": effects[group], "x": effects[x]})
    return columns.join(_with_ends(effects, values)).reset_index(drop=True)


def as_dots(
    effects: pd.DataFrame, row: "str | pd.Series[str]", values: Sequence[str]
) -> pd.DataFrame:
    """Rows for a figure of dots, one per effect; `values` as in `in_long_form`."""
    columns = pd.DataFrame({"row": row, "series": effects["edit"]})
    return columns.join(_with_ends(effects, values))


def _with_ends(effects: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    names = ["value", "low", "high"]
    found = effects[list(values)].set_axis(names[: len(values)], axis=1)
    return found.reindex(columns=names)
