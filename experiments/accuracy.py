"""Are answers worse when secondary sinks are edited while the model reads and writes?"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.command import main_of
from experiments.counted import beside_totals, with_unmatched
from experiments.members import members_of
from experiments.ruled import CLEAN, CONTROL, RULE, Parts, Row, right_answers, tables_of
from experiments.shared import Finding, Observed, unanswered
from experiments.steered import TAU
from secondary_sinks import Rule, Verdict, generate_under, observe
from secondary_sinks.causal import Met
from secondary_sinks.cli import number, whole
from secondary_sinks.errors import TextError
from secondary_sinks.plots import interval_dots
from secondary_sinks.questions import Cost, judge
from secondary_sinks.runs import Sampling
from secondary_sinks.statistics import median_over_texts, outcome_of, share_over_texts
from secondary_sinks.texts import read_questions

NAME = "accuracy"
QUESTION = "Are answers worse when secondary sinks are edited while the model reads and writes?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) don't say what secondary sinks do for an answer. Their "
    "scripts rescale them in a finished text. Claims to check: without its sinks a model answers "
    "worse, finds the right answer less likely, and makes sinks of other tokens."
)
METHOD = (
    "The model answers questions of which the answers are known, in three arms: as it is; under a "
    "rule; and under the control of the rule. The rule edits each token after the first three at "
    "which the MLP of a layer (by default the one that creates most secondary sinks) writes with a "
    "cosine above 0.98 with what it writes at the first token. The edit gives the MLP's output a "
    "norm (0), or with --mask hides the key from later queries in later layers. It is active in "
    "the prompt and at each written token. The control makes the same edit at as many other "
    "tokens: random ones of the prompt, then the next one after each token that meets the rule. It "
    "is equal in number and kind of edits, not in how much attention the tokens draw. What counts "
    'as the answer is what follows the last "Answer:", else the last line, without case and '
    "punctuation at its ends; it must equal the right one. New sinks are tokens, edited in neither "
    "arm, that only the edits make sinks; both arms are searched in the same tokens, prompt and "
    "clean answer. Four verdicts, paired by question or text: among the questions in which rule "
    "and control differ, fewer right answers, and more new sinks, in more than half; and a higher "
    "median loss of the right answer, read after its prompt, and of the texts. Questions and texts "
    "in which the control finds fewer tokens to edit, in what all arms read, are left out. Where "
    "it finds fewer in the answers that are written, the question counts against the claim, and "
    "for it before it is refuted: what is written depends on the edits. Where the totals say the "
    "opposite of most questions, the verdict is open. A beginning that an earlier text or prompt "
    "has too counts once: new sinks and losses are those after it."
)
REFUTATION = (
    "As many right answers, as likely ones and as many sinks as with other tokens edited. With "
    "few questions in which the two differ, it is inconclusive."
)
CLAIM = "with the tokens of the rule edited, fewer answers are right than with as many others"
LIKELY = "with the tokens of the rule edited, the right answer is less likely than with others"
SINKS = "with the tokens of the rule edited, more other tokens become sinks than with others"
TEXTS = "with the tokens of the rule edited, texts are less likely than with as many others"
CONTROLS = "the same edit at as many other tokens of the same question or text"
TOO_FEW = "with too few other tokens for the control"
UNMATCHED = (
    "the control finds too few other tokens in the answer that it writes; they count against the "
    "claim, and for it before it is refuted"
)
N_CLAIMS, LONGEST, BUNDLED = 4, 32, "bundled:questions"
ALIKE: dict[str, Any] = {
    "controls": CONTROLS,
    "controlled": False,
    "n_claims": N_CLAIMS,
    "counted": "edited token",
    "always": True,
}
"""How all four verdicts are judged."""
WORSE = {"right": (-1, "fewer right answers"), "n_new_sinks": (1, "more new sinks")}
"""By column: 1 if more is worse, -1 if fewer is; and how the verdict says it."""
COLUMNS = {
    "row": "arm: clean (no edit), rule, or control (as many other tokens edited)",
    "series": "always empty",
    "value": "share of right answers, mean over questions",
    "low": "lower end of its exact 95 % interval over questions, not corrected for several rows",
    "high": "upper end of it",
    "n": "number of answers",
    "n_texts": "number of questions",
    "loss_of_answer": "of the right answer after the prompt, nats per token, median over questions",
    "loss_of_text": "of the texts, nats per token, median over texts",
    "n_new_sinks": "tokens of prompts and clean answers, edited in no arm, that only the edits "
    "make sinks",
    "n_met": "tokens of prompts and answers that meet the rule",
    "n_edited": "tokens that are edited",
}
CAPTIONS = {"figure": "Share of right answers, with exact 95 % intervals over questions."}
NO_TEMPLATE = "answering needs a tokenizer with a chat template; the model has none"


def _readable(questions: str) -> str:
    """Refuse what holds no questions before any model is loaded."""
    read_questions(questions)
    return questions


def run(
    observed: Observed,
    *,
    questions: Annotated[
        str,
        typer.Option(
            callback=_readable,
            help="JSON Lines with 'prompt' and 'answer'; hf:NAME:split:PROMPT,ANSWER; or "
            "bundled:questions, 30 short ones.",
        ),
    ] = BUNDLED,
    layer: Annotated[int | None, whole("Layer. Default: the one that creates most.")] = None,
    tau: Annotated[
        float, number("Cosine above which a token meets the rule.", least=-1.0, most=1.0)
    ] = TAU,
    value: Annotated[float, number("Norm that the MLP's output is given.")] = 0.0,
    mask: Annotated[bool, typer.Option(help="Hide the tokens from later queries instead.")] = False,
    anywhere: Annotated[
        bool, typer.Option(help="The right answer may stand anywhere in what the model says.")
    ] = False,
    samples: Annotated[int, whole("Answers to each question and arm.", least=1)] = 1,
    temperature: Annotated[float, number("Sampling temperature; 0 takes the likeliest.")] = 0.0,
    max_new_tokens: Annotated[int, whole("Maximum length of an answer.", least=1)] = LONGEST,
) -> Finding:
    """Answer, score the right answers, look for new sinks, and compare the arms."""
    asked = read_questions(questions)
    members = members_of(observed, layer)
    if members.missing or not _can_answer(observed):
        return unanswered(NAME, QUESTION, CLAIM, members.missing or NO_TEMPLATE, COLUMNS)
    how: dict[str, Any] = {"kind": "mask"} if mask else {"value": value}
    rule = Rule(layer=members.layer, tau=tau, **how)
    arms = {CLEAN: None, RULE: rule, CONTROL: replace(rule, control=True, seed=observed.seed)}
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=observed.seed)
    right = right_answers(observed.model, asked)
    observed.say(_price(observed, _work(observed, right, samples, max_new_tokens)))
    answers = generate_under(
        observed.model,
        [one.text for one in asked],
        arms,
        sampling=sampling,
        n_samples=samples,
        out=observed.kept(NAME),
        say=observed.say,
    )
    tables = tables_of(observed, asked, right, answers, arms, anywhere=anywhere)
    met = sum((one.met for one in answers if one.arm == RULE), Met()).in_words(rule)
    if not any(table["n_met"].any() for table in tables.values()):
        return unanswered(NAME, QUESTION, CLAIM, met, COLUMNS)
    return _finding(tables, met)


def cost(observed: Observed) -> Cost:
    """The passes with the bundled questions; an answer counts as one, though writing is slower."""
    nothing = Cost(question=NAME, replayed=0, recomputed=0)
    if not _can_answer(observed) or members_of(observed, None).missing:
        return nothing
    try:
        right = right_answers(observed.model, read_questions(BUNDLED))
    except TextError:  # of a prompt that cannot be fed, which `run` raises too
        return nothing
    return _work(observed, right, 1, LONGEST)


def _work(observed: Observed, right: Mapping[str, Parts], samples: int, longest: int) -> Cost:
    """Upper bound: three arms write an answer, search it for new sinks, and score the right one."""
    sizes = [len(prompt) + longest for prompt, _ in right.values()]
    texts = [len(text.tokens) for text in observed.texts]
    each = 6 * samples + 3
    return Cost(
        question=NAME,
        replayed=0,
        recomputed=each * len(sizes) + 3 * len(texts),
        tokens=each * sum(sizes) + 3 * sum(texts),
    )


def _price(observed: Observed, work: Cost) -> str:
    """The work in words, with seconds from one pass over the shortest text."""
    shortest = min((text.tokens for text in observed.texts), key=len)
    start = time.perf_counter()
    observe(observed.model, shortest)
    seconds = work.seconds(0.0, (time.perf_counter() - start) / len(shortest))
    return f"to come: {NAME}, at most {work.in_words()}, about {seconds:.0f} s; of that, answering:"


def _can_answer(observed: Observed) -> bool:
    return getattr(observed.model.tokenizer, "chat_template", None) is not None


def _finding(tables: dict[str, pd.DataFrame], met: str) -> Finding:
    frame = pd.DataFrame([_row(arm, tables) for arm in (CLEAN, RULE, CONTROL)])
    told = frame.set_index("row")
    right = ", ".join(f"{share:.0%} {arm}" for arm, share in told["value"].items())
    new = " and ".join(f"{told['n_new_sinks'][arm]:,} under the {arm}" for arm in (RULE, CONTROL))
    answers, sinks, short = tables["answers"], tables["sinks"], _short(tables["scores"])
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame[list(COLUMNS)],
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_dots(frame, "share of right answers", line=None),
        verdict=_worse(CLAIM, answers, "right", short, f"right answers: {right}; {met}"),
        further=(
            _less_likely(LIKELY, tables["scores"], "right answer", "question"),
            _worse(SINKS, sinks, "n_new_sinks", _short(sinks), f"new sinks: {new}"),
            _less_likely(TEXTS, tables["texts"], "text", "text"),
        ),
        tables=tables,
    )


def _worse(
    claim: str, rows: pd.DataFrame, column: str, short: "pd.Series[bool]", why: str
) -> Verdict:
    """Whether the rule is worse in most of the questions in which it differs from the control.

    `short` are questions that are left out. Others may have too few tokens for the control in the
    answers that an arm wrote. To leave these out would choose questions by what came out, so they
    count against what is found: against a difference, and for one before it is refuted.
    """
    apart, (sign, what) = _apart(rows, column), WORSE[column]
    used = sign * apart[~short.reindex(apart.index)]
    differs = used[used != 0]
    unmatched = used.index[_short(rows).reindex(used.index, fill_value=False).astype(bool)]
    texts = differs.index.union(unmatched)
    least, most = with_unmatched(differs, unmatched, N_CLAIMS)
    here, there = (rows[rows["arm"] == arm] for arm in (RULE, CONTROL))
    totals = [sign * part[part["text_id"].isin(used.index)][column].sum() for part in (here, there)]
    outcome, why_open = beside_totals(least, *totals)
    if outcome_of(least) != outcome_of(most):  # the unmatched questions decide
        outcome, why_open = "inconclusive", ""
    edited = here[here["text_id"].isin(texts)]["n_edited"]
    told = [
        f"{why}; rule and control differ in {len(differs)} of {len(apart)} questions",
        f"in {len(unmatched)} {UNMATCHED}" if len(unmatched) else "",
        why_open,
    ]
    return judge(
        claim,
        replace(least, n=int(edited.sum())),
        "; ".join(filter(None, told)),
        outcome=outcome,
        statistic=f"share of questions with {what} under the rule, where the two differ",
        left_out={
            "in which the two are equal": int((used == 0).sum()),
            TOO_FEW: int(short.sum()),
        },
        grouped="question",
        **ALIKE,
    )


def _less_likely(claim: str, rows: pd.DataFrame, what: str, grouped: str) -> Verdict:
    """Whether the loss of a right answer, or of a text, is higher under the rule."""
    short, lost = _short(rows), _apart(rows, "loss")
    edited = rows[rows["arm"] == RULE].set_index("text_id")["n_edited"]
    repeated = rows[rows["arm"] == RULE].set_index("text_id")["loss"].isna()
    used = lost[(~short & (edited > 0) & ~repeated).reindex(lost.index)]
    median = median_over_texts(used, used.index.tolist(), n_claims=N_CLAIMS)
    loss = rows.groupby("arm")["loss"].median()
    return judge(
        claim,
        replace(median, n=int(edited[used.index].sum())),
        f"median loss: {loss[CLEAN]:.3f} clean, {loss[RULE]:.3f} under the rule, "
        f"{loss[CONTROL]:.3f} under the control (nats per token)",
        statistic=f"loss of the {what} under the rule minus that under the control, median",
        unit="nats per token",
        left_out={
            "with no token that meets the rule": int(((edited == 0) & ~repeated).sum()),
            "with nothing that an earlier one lacks": int(repeated.sum()),
            TOO_FEW: int((short & ~repeated).sum()),
        },
        line=0.0,
        grouped=grouped,
        **ALIKE,
    )


def _row(arm: str, tables: dict[str, pd.DataFrame]) -> Row:
    own = {name: table[table["arm"] == arm] for name, table in tables.items()}
    answers = own["answers"]
    share = share_over_texts(answers["right"], answers["text_id"].tolist())
    return {
        "row": arm,
        "series": "",
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "n": share.n,
        "n_texts": share.n_texts,
        "loss_of_answer": own["scores"]["loss"].median(),
        "loss_of_text": own["texts"]["loss"].median(),
        "n_new_sinks": int(own["sinks"]["n_new_sinks"].sum()),
        **{name: int(answers[name].sum()) for name in ("n_met", "n_edited")},
    }


def _short(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Whether the control edits fewer tokens than the rule: the two are then not comparable."""
    return rows[rows["arm"] == CONTROL].groupby("text_id")["n_short"].max() > 0


def _apart(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """By question: what the rule has more than the control, in the mean over samples."""
    table = rows.groupby(["text_id", "arm"], sort=False)[column].mean().unstack("arm")
    return table[RULE] - table[CONTROL]


main = main_of(run)

if __name__ == "__main__":
    main()
