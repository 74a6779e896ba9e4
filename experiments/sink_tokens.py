"""Which tokens are secondary sinks, where in a text do they occur, and how rare are they?"""

import math
import re
from collections import Counter

import numpy as np
import pandas as pd

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered
from secondary_sinks import Verdict
from secondary_sinks.causal import ordinary_positions
from secondary_sinks.detection import counts_for_levels
from secondary_sinks.display import rounded
from secondary_sinks.plots import count_bars
from secondary_sinks.questions import judge
from secondary_sinks.statistics import (
    Interval,
    jackknife,
    paired_share_over_texts,
    share_over_texts,
)
from secondary_sinks.types import Sink

NAME, QUESTION = "sink_tokens", "Which tokens are secondary sinks, and how rare are they?"
PAPER = (
    "Claim: secondary sinks have little meaning of their own. The paper (Wong et al. 2025, arXiv "
    "2512.22213) says this about attention sinks; in the detections that its authors released, "
    "most secondary sinks are the space token or a digit, about one in 10,000 tokens."
)
METHOD = (
    "The strings of all secondary sinks, grouped by kind of character (`kind_of`), the share of "
    "the same token's occurrences that are sinks, their positions, and their rate. Verdict: the "
    "share of secondary sinks without a letter (white space, digits, punctuation), where a random "
    "ordinary token of the same text has one: each sink counts by the share of these tokens with a "
    "letter, mean over texts. So random tokens of a text full of symbols support nothing. Stop "
    "words count as words: which words have little meaning differs between languages."
)
REFUTATION = (
    "Most secondary sinks contain letters. If few ordinary tokens of their texts do so either, "
    "nothing is shown or refuted."
)
CLAIM = (
    "secondary sinks are white space, digits or punctuation, where ordinary tokens of their text "
    "contain letters"
)
COLUMNS = {
    "token": "string of the token",
    "token_id": "id of the token",
    "kind": "white space, digits, punctuation, letters, or special (`<|...|>` and the like)",
    "n_sinks": "secondary sinks, without copies of sinks in earlier texts",
    "n_texts": "texts with such a sink",
    "n_occurrences": "number of occurrences of the token in all texts",
    "share": "n_sinks / n_occurrences, in [0, 1]",
    "per_10k": "n_sinks per 10,000 tokens of text",
    "place": "median relative position in the text, from 0 (first token) to 1 (last)",
}
CAPTIONS = {
    "figure": "Secondary sinks by token (at most 30 tokens); colour: kind of character.",
}


def run(observed: Observed) -> Finding:
    """One row per token that is a secondary sink somewhere."""
    sinks = [sink for sink in observed.sinks.sinks if counts_for_levels(sink)]
    if not sinks:
        why = f"no secondary sink was found in {_n_tokens(observed):,} tokens"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    frame = _by_token(observed, sinks)
    bars = frame.rename(columns={"token": "what", "kind": "group", "n_sinks": "count"})
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=count_bars(bars, "secondary sinks", tokens=True),
        verdict=_verdict(observed, sinks, frame),
        tables={"places": _places(observed, sinks)},
    )


BYTE = re.compile("<0x[0-9A-F]{2}>")


def kind_of(token: str) -> str:
    """Kind of characters in a token; any letter makes it "letters".

    >>> [kind_of(token) for token in (" the", " ", "42", ", ", "<|im_start|>", "3rd")]
    ['letters', 'white space', 'digits', 'punctuation', 'special', 'letters']
    >>> kind_of("<0x0A>")  # a byte
    'white space'
    """
    if BYTE.fullmatch(token):
        token = bytes([int(token[3:5], 16)]).decode(errors="replace")
    if token.startswith("<") and token.endswith(">") and len(token) > 2:
        return "special"
    if any(char.isalpha() for char in token):
        return "letters"
    if any(char.isnumeric() for char in token):
        return "digits"
    return "punctuation" if token.strip() else "white space"


def _n_tokens(observed: Observed) -> int:
    return sum(len(trace.tokens) for trace in observed.traces)


def _places(observed: Observed, sinks: list[Sink]) -> pd.DataFrame:
    """One row per sink with its position in the text."""
    length = {trace.text_id: len(trace.tokens) for trace in observed.traces}
    names = ("text_id", "pos", "token", "token_id", "l_start", "lifetime")
    places = pd.DataFrame([sink.fields(*names) for sink in sinks])
    places.insert(2, "place", places["pos"] / (places["text_id"].map(length) - 1))
    return places


def _by_token(observed: Observed, sinks: list[Sink]) -> pd.DataFrame:
    occurs = Counter(one for trace in observed.traces for one in trace.tokens.tolist())
    by_token = _places(observed, sinks).groupby("token_id", as_index=False)
    frame = by_token.agg(
        token=("token", "first"),
        n_sinks=("pos", "size"),
        n_texts=("text_id", "nunique"),
        place=("place", "median"),
    )
    frame = frame.assign(
        kind=frame["token"].map(kind_of),
        n_occurrences=frame["token_id"].map(occurs),
        per_10k=1e4 * frame["n_sinks"] / _n_tokens(observed),
    )
    frame = frame.assign(share=frame["n_sinks"] / frame["n_occurrences"])[list(COLUMNS)]
    return frame.sort_values(["n_sinks", "token_id"], ascending=[False, True], ignore_index=True)


def _rate(observed: Observed, sinks: list[Sink]) -> Interval:
    """Sinks per 10,000 tokens with an approximate interval over texts, used in no verdict."""
    by_text = Counter(sink.text_id for sink in sinks)
    sums = [[by_text[one.text_id], len(one.tokens)] for one in observed.traces]
    return jackknife(np.array(sums, dtype=float), lambda total: float(1e4 * total[0] / total[1]))


def _is_empty(token: str) -> bool:
    """Whether a token holds no letter, and is not a special one."""
    return kind_of(token) not in {"letters", "special"}


def _empty_elsewhere(observed: Observed) -> dict[str, float]:
    """Share of the ordinary tokens of each text that hold no letter; NaN without such a token."""
    shares = {}
    for trace in observed.traces:
        places = ordinary_positions(trace, observed.sinks)
        empty = [_is_empty(trace.token_strings[pos]) for pos in places]
        shares[trace.text_id] = sum(empty) / len(empty) if empty else math.nan
    return shares


def _verdict(observed: Observed, sinks: list[Sink], frame: pd.DataFrame) -> Verdict:
    """Whether sinks hold no letter, where a random ordinary token of their text does."""
    texts, elsewhere = [sink.text_id for sink in sinks], _empty_elsewhere(observed)
    empty = [float(_is_empty(sink.token)) for sink in sinks]
    control = [elsewhere[text] for text in texts]
    share = paired_share_over_texts(empty, control, texts)
    cases = math.nan if share.cases is None else share.cases.value
    chance = share_over_texts(control, texts).value
    rate, first = _rate(observed, sinks), frame.iloc[0]
    return judge(
        CLAIM,
        share,
        f"{cases:.0%} of the sinks hold no letter, and {chance:.0%} of the ordinary tokens of "
        f"their texts (means over texts); the most frequent of {len(frame)} tokens is "
        f"{first['token']!r} ({first['n_sinks']} of "
        f"{len(sinks)} sinks; {first['share']:.0%} of its {first['n_occurrences']} occurrences); "
        f"{rounded(rate.value)} sinks per 10,000 tokens [about "
        f"{rounded(max(rate.low, 0))} to {rounded(rate.high)}]",
        statistic="share of secondary sinks without a letter, where a random ordinary token of "
        "the same text has one",
        controls="all tokens of the same text that can be judged and are no sink",
        left_out={"in texts without such a token": int(np.isnan(control).sum())},
    )


main = main_of(run)

if __name__ == "__main__":
    main()
