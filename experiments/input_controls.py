"""Which inputs make secondary sinks: order and choice of tokens, the first one, or a mask?"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Generator

from experiments.changed import BEHEADED, CHANGES, RANDOM, SHUFFLED, TWICE, Change
from experiments.command import main_of
from experiments.counted import beside_totals, rates_by, share_of_sinks
from experiments.masked import masked_texts
from experiments.shared import Finding, Observed, unanswered
from secondary_sinks import SinkTable, Trace, Verdict
from secondary_sinks.detection import shared_lengths
from secondary_sinks.display import count
from secondary_sinks.plots import interval_dots
from secondary_sinks.questions import Cost, judge
from secondary_sinks.runs import observe_all
from secondary_sinks.statistics import paired_share_over_texts
from secondary_sinks.types import Sink

NAME, QUESTION = "input_controls", "Which inputs make secondary sinks?"
PAPER = (
    "The paper (Wong et al. 2025, arXiv 2512.22213) finds secondary sinks in answers of reasoning "
    "models and does not vary the input. Claims to check: they need the order of the tokens, the "
    "text's own tokens, and its first token; a passage makes fewer when it is read again; and a "
    "token in the middle of a text becomes a sink when it sees nothing before it."
)
METHOD = (
    "Each text is observed again with the same number of tokens: in random order (the first token "
    "stays), as random tokens of the vocabulary (the first stays), and as its first half read "
    "twice; and without its first token, where a sink that becomes the primary still counts. "
    "Texts without a primary in one of the two are left out. Statistic: of the secondary sinks in "
    "the text and in the changed text, the share in the text (for the passage read twice: the "
    "share in the first reading, both without the last tokens, which too few queries follow), "
    "mean over texts. One half means that the input does not matter. Where all texts "
    "together have as many sinks in the other input, or more, though most texts have fewer there, "
    "or the other way round, the verdict is open. Of a text that begins as an earlier one does, "
    "only what follows that beginning is changed and counted, in every input. A second reading "
    "also stands later in the text; this experiment does not separate the two. "
    "Then a mask: at a random token of the middle half, not a sink before, all earlier tokens are "
    "hidden from it and from all later tokens, in all heads and layers; positions stay. "
    "Statistic: the share of texts in which the token becomes a sink (along the primary of the "
    "text as it is) under this mask, but not under one that leaves one random earlier token "
    "visible, neither the first nor a sink. Attention is compared with an even spread under each "
    "mask."
)
REFUTATION = (
    "As many secondary sinks, or more, in the changed texts. No sink where all earlier tokens are "
    "hidden, or one also where all but one are."
)
AS_IT_IS = "as it is"
AFTER, MASKED = "from a chosen token on, as it is", "from there on, with all before it hidden"
ALL_BUT_ONE = "from there on, with all but one token before it hidden"
SHARED = "in a beginning that an earlier text has too"
CLAIMS = {
    SHUFFLED: "secondary sinks need the order of the tokens: fewer arise in random order",
    RANDOM: "secondary sinks need the text's own tokens: fewer arise among random tokens",
    TWICE: "a passage makes fewer secondary sinks when it is read again, later in the text",
    BEHEADED: "secondary sinks need the text's first token: fewer arise without it",
    MASKED: "a token in the middle of a text becomes a sink when a mask hides all tokens before "
    "it, and not when it still sees one",
}
COLUMNS = {
    "text_id": "text",
    "input": "as it is, or how it was changed",
    "n_tokens": "number of counted tokens; those from a chosen token on, where there is one",
    "n_sinks": "secondary sinks, without n_shared; without the first token also those that are "
    "now the primary or like it; after a chosen token: lasting sinks, primary-like ones and "
    "copies too; NaN in a text without a primary, where no token can be a secondary sink",
    "n_shared": "secondary sinks in a beginning that an earlier text has too; not counted",
    "n_first": "of them: in the first reading, for the passage that is read twice; else NaN",
    "n_again": "of them: in the second reading; else NaN",
    "per_10k": "n_sinks per 10,000 tokens",
    "mask_pos": "position of the chosen token; NaN for inputs without one",
    "at_mask": "1 if the chosen token is a sink, which n_sinks does not count; 0 if not; else NaN",
}
CAPTIONS = {
    "figure": "Secondary sinks per 10,000 tokens by input; whiskers: about 95 % over texts. From a "
    "chosen token on, copies and primary-like sinks count too."
}


def run(observed: Observed) -> Finding:
    """Observe each text as it is changed, and count the sinks."""
    shared = shared_lengths([text.tokens for text in observed.texts])
    given = (observed.traces, observed.sinks)
    parts = {AS_IT_IS: _counts(AS_IT_IS, *given, shared, observed.sinks)}
    for number, (name, change) in enumerate(CHANGES.items()):
        observed.say(f"input_controls: {name} ({number + 1} of {len(CHANGES)} inputs)")
        parts[name] = _counts(name, *_observed(observed, change, shared), shared, observed.sinks)
    observed.say("input_controls: with a mask")
    masked = _masked(masked_texts(observed))
    frame = pd.concat([*parts.values(), masked], ignore_index=True)[list(COLUMNS)]
    if not (frame["n_sinks"] > 0).any() and not (frame["at_mask"] == 1).any():
        why = "no input makes a secondary sink"
        return unanswered(NAME, QUESTION, CLAIMS[SHUFFLED], why, COLUMNS)
    verdicts = [_verdict(name, parts[AS_IT_IS], parts[name]) for name in CHANGES]
    verdicts.append(_verdict_on_mask(masked, len(observed.traces)))
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_dots(
            rates_by(frame, "input"), "secondary sinks per 10,000 tokens", line=None
        ),
        verdict=verdicts[0],
        further=tuple(verdicts[1:]),
    )


def cost(observed: Observed) -> Cost:
    """One pass over each text for each change, and for each of two masks."""
    lengths = [len(trace.tokens) for trace in observed.traces]
    number = len(CHANGES) + 2
    return Cost(
        question=NAME,
        replayed=0,
        recomputed=number * len(lengths),
        tokens=number * sum(lengths),
    )


def _observed(
    observed: Observed, change: Change, shared: list[int]
) -> tuple[tuple[Trace, ...], SinkTable]:
    """Traces and sinks of the changed texts; changes are drawn anew for each text."""
    chance = Generator().manual_seed(observed.seed)
    model = observed.model
    known = model.cfg.d_vocab if model.tokenizer is None else len(model.tokenizer)
    vocabulary = min(int(model.cfg.d_vocab), int(known))
    texts = [
        replace(text, tokens=change(text.tokens, chance, vocabulary, max(kept, 1)))
        for text, kept in zip(observed.texts, shared, strict=True)
    ]
    return observe_all(model, texts)


def _counts(
    name: str,
    traces: tuple[Trace, ...],
    sinks: SinkTable,
    shared: list[int],
    before: SinkTable,
) -> pd.DataFrame:
    """One row per text. `before`: the sinks of the texts as they are."""
    rows = []
    is_twice = name == TWICE
    for trace, kept in zip(traces, shared, strict=True):
        length, start = len(trace.tokens), kept - (name == BEHEADED)
        period = length // 2 if is_twice else length
        every = [*_of(sinks, trace, "secondary"), *_promoted(name, sinks, trace, before)]
        own = [sink for sink in every if sink.pos % max(period, 1) >= start]
        first, again = _readings(own, length, sinks.thresholds.min_queries)
        n_tokens = sum(pos % max(period, 1) >= start for pos in range(length))
        rows.append(
            {
                "text_id": trace.text_id,
                "input": name,
                "n_tokens": n_tokens,
                "n_sinks": len(own) if _of(sinks, trace, "primary") else np.nan,
                "n_shared": len(every) - len(own),
                "n_first": first if is_twice else np.nan,
                "n_again": again if is_twice else np.nan,
                "per_10k": 1e4 * len(own) / n_tokens if n_tokens else np.nan,
                "mask_pos": np.nan,
                "at_mask": np.nan,
            }
        )
    return pd.DataFrame(rows)


def _of(sinks: SinkTable, trace: Trace, kind: str) -> tuple[Sink, ...]:
    return sinks.of_text(trace.text_id).of_kind(kind).sinks


def _promoted(name: str, sinks: SinkTable, trace: Trace, before: SinkTable) -> list[Sink]:
    """Secondary sinks that are the primary, or like it, without the first token: sinks still."""
    if name != BEHEADED:
        return []
    places = {sink.pos - 1 for sink in _of(before, trace, "secondary")}
    others = [*_of(sinks, trace, "primary"), *_of(sinks, trace, "primary_like")]
    return [sink for sink in others if sink.pos in places]


def _masked(texts: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per text and mask: sinks after the chosen token, and whether it is one."""
    rows = [
        {
            "text_id": text["text_id"],
            "input": name,
            "n_tokens": len(sinks),
            "n_sinks": sum(sinks[1:]),
            "n_shared": np.nan,
            "n_first": np.nan,
            "n_again": np.nan,
            "per_10k": 1e4 * sum(sinks[1:]) / len(sinks),
            "mask_pos": float(text["pos"]),
            "at_mask": float(sinks[0]),
        }
        for text in texts
        for name, sinks in zip((AFTER, MASKED, ALL_BUT_ONE), text["sinks"], strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _verdict_on_mask(masked: pd.DataFrame, n_texts: int) -> Verdict:
    """Whether the chosen token becomes a sink under the mask, and not with one token to see."""
    case, control = (
        masked[masked["input"] == name].set_index("text_id")["at_mask"]
        for name in (MASKED, ALL_BUT_ONE)
    )
    share = paired_share_over_texts(case, control, list(case.index), n_claims=len(CLAIMS))
    share = replace(share, cases=None)  # the claim is about the control too
    return judge(
        CLAIMS[MASKED],
        share,
        f"the chosen token becomes a sink in {case.sum():.0f} of {count(len(case), 'text')} with "
        f"all tokens before it hidden, in {control.sum():.0f} with all but one hidden",
        statistic="share of texts in which a token becomes a sink under the mask, but not with "
        "one earlier token visible",
        controls="the same mask but for one random earlier token, not a sink, that stays visible",
        counted="chosen token",
        left_out={"too short for a mask, or without a primary": n_texts - len(case)},
        n_claims=len(CLAIMS),
        controlled=False,
    )


def _readings(sinks: list[Sink], n_tokens: int, min_queries: int) -> tuple[int, int]:
    """Sinks in the first and in the second half, at places that are judged in both.

    Not the first token of either, which is the primary's place, nor the last ones.
    """
    half = n_tokens // 2
    judged = [s.pos for s in sinks if 0 < s.pos % half <= half - min_queries]
    return sum(pos < half for pos in judged), sum(pos >= half for pos in judged)


def _verdict(name: str, plain: pd.DataFrame, changed: pd.DataFrame) -> Verdict:
    """Whether more sinks arise in the texts as they are, or in the first reading."""
    if name == TWICE:
        arms, controls = (changed["n_first"], changed["n_again"]), "the second reading"
    else:
        arms, controls = (plain["n_sinks"], changed["n_sinks"]), f"the texts {name}"
    known = (plain["n_sinks"].notna() & changed["n_sinks"].notna()).to_numpy()
    here, there = (arm[known].to_numpy(dtype=int) for arm in arms)
    found = share_of_sinks(here, there, plain["text_id"][known], n_claims=len(CLAIMS))
    outcome, why_open = beside_totals(found, here.sum(), there.sum())
    told = f"{here.sum()} sinks against {there.sum()} in {controls}, in {sum(known)} texts"
    return judge(
        CLAIMS[name],
        found,
        "; ".join(filter(None, [told, why_open])),
        outcome=outcome,
        statistic=f"share of secondary sinks that are not in {controls}",
        controls=controls,
        left_out={
            SHARED: int((changed if name == TWICE else plain)["n_shared"].sum()),
            "in texts without a primary": int(plain["n_sinks"][~known].sum()),
        },
        n_claims=len(CLAIMS),
        controlled=False,
    )


main = main_of(run)

if __name__ == "__main__":
    main()
