"""Are answers worse when secondary sinks are edited while the model reads and writes?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from experiments.command import main_of
from experiments.members import members_of
from experiments.ruled import Row, answer_row, score_row
from experiments.shared import Finding, Observed, unanswered
from experiments.steered import TAU
from secondary_sinks import Rule, Verdict, generate_under
from secondary_sinks.causal import Met
from secondary_sinks.cli import number, whole
from secondary_sinks.plots import interval_dots
from secondary_sinks.questions import Cost, judge
from secondary_sinks.runs import ArmAnswer, Sampling, feed_prompt
from secondary_sinks.statistics import median_over_texts, share_over_texts
from secondary_sinks.texts import AnsweredQuestion, read_questions

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
    "punctuation at its ends; it must equal the right one. The right answer is also scored after "
    "the prompt, in one pass. New sinks are those of prompt and answer that the same tokens don't "
    "have without edits. Three verdicts, paired by question: among the questions in which rule and "
    "control differ, fewer right answers, and more new sinks per token, in more than half; and a "
    "lower log-likelihood of the right answer (median). Table 'texts': the perplexity of the texts."
)
REFUTATION = (
    "As many right answers, as likely ones and as many sinks as with other tokens edited. With "
    "few questions in which the two differ, it is inconclusive."
)
CLEAN, RULE, CONTROL = "clean", "rule", "control"
CLAIM = "with the tokens of the rule edited, fewer answers are right than with as many others"
LIKELY = "with the tokens of the rule edited, the right answer is less likely than with others"
SINKS = "with the tokens of the rule edited, more other tokens become sinks than with others"
CONTROLS = "the same edit at as many other tokens of the same question"
TOO_FEW = "questions with too few other tokens for the control"
N_CLAIMS, LONGEST = 3, 32
COLUMNS = {
    "row": "arm: clean (no edit), rule, or control (as many other tokens edited)",
    "series": "always empty",
    "value": "share of right answers, mean over questions",
    "low": "lower end of its exact 95 % interval over questions, not corrected for several rows",
    "high": "upper end of it",
    "n": "number of answers",
    "n_texts": "number of questions",
    "log_likelihood": "of the right answer after the prompt, nats, median over questions",
    "perplexity": "of the texts, median",
    "n_new_sinks": "tokens of prompts and answers, not edited, that only the edits make sinks",
    "n_met": "tokens of prompts and answers that meet the rule",
    "n_edited": "tokens that are edited",
}
CAPTIONS = {"figure": "Share of right answers, with exact 95 % intervals over questions."}
NO_TEMPLATE = "answering needs a tokenizer with a chat template; the model has none"


def run(
    observed: Observed,
    *,
    questions: Annotated[
        str,
        typer.Option(
            help="JSON Lines with 'prompt' and 'answer'; hf:NAME:split:PROMPT,ANSWER; or "
            "bundled:questions, 30 short ones."
        ),
    ] = "bundled:questions",
    layer: Annotated[int | None, whole("Layer. Default: the one that creates most.")] = None,
    tau: Annotated[
        float, number("Cosine above which a token meets the rule.", least=-1.0, most=1.0)
    ] = TAU,
    value: Annotated[float, number("Norm that the MLP's output is given.")] = 0.0,
    mask: Annotated[bool, typer.Option(help="Hide the tokens from later queries instead.")] = False,
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
    answers = generate_under(
        observed.model,
        [one.text for one in asked],
        arms,
        sampling=sampling,
        n_samples=samples,
        out=_kept(observed),
        say=observed.say,
    )
    tables = _tables(observed, asked, answers, arms)
    met = sum((one.met for one in answers if one.arm == RULE), Met())
    if not tables["scores"]["n_met"].any() and not met.n_met:
        return unanswered(NAME, QUESTION, CLAIM, met.in_words(rule), COLUMNS)
    return _finding(tables, met.in_words(rule))


def cost(observed: Observed) -> Cost:
    """Upper bound of the work with the bundled questions: three arms, read, written and scored."""
    if not _can_answer(observed) or members_of(observed, None).missing:
        return Cost(question=NAME, replayed=0, recomputed=0)
    fed = [feed_prompt(observed.model, one.text) for one in read_questions("bundled:questions")]
    sizes = [len(prompt) + LONGEST for prompt in fed] * 3
    texts = [len(trace.tokens) for trace in observed.traces] * 3
    return Cost(
        question=NAME,
        replayed=0,
        recomputed=4 * len(sizes) + len(texts),
        tokens=4 * sum(sizes) + sum(texts),
    )


def _can_answer(observed: Observed) -> bool:
    return getattr(observed.model.tokenizer, "chat_template", None) is not None


def _kept(observed: Observed) -> Path | None:
    """Where answers are kept, so that an interrupted start goes on with the next one."""
    return None if observed.folder is None else observed.folder / f"{NAME}.answers.jsonl"


def _tables(
    observed: Observed,
    asked: list[AnsweredQuestion],
    answers: list[ArmAnswer],
    arms: Mapping[str, Rule | None],
) -> dict[str, pd.DataFrame]:
    """Rows by question, arm and sample; by question and arm; and by text and arm."""
    by_id = {one.text.text_id: one for one in asked}
    prompts = {one.text_id: one.prompt for one in answers}
    progress = observed.progress(NAME)
    n_steps, rows = len(answers) + len(prompts), list[Row]()
    for one in answers:
        rows.append(answer_row(observed, by_id[one.text_id], one, arms[one.arm]))
        progress(len(rows), n_steps)
    scores = list[Row]()
    for text_id, prompt in prompts.items():
        right = observed.model.tokenizer.encode(by_id[text_id].answer, add_special_tokens=False)
        for arm, rule in arms.items():
            row = score_row(observed, prompt, right, rule)
            scores.append({"text_id": text_id, "arm": arm, **row})
        progress(len(rows) + len(scores) // len(arms), n_steps)
    texts = [
        {"text_id": text.text_id, "arm": arm}
        | score_row(observed, text.tokens[:1], text.tokens[1:], rule)
        for text in observed.texts
        for arm, rule in arms.items()
    ]
    parts = {"answers": rows, "scores": scores, "texts": texts}
    return {name: pd.DataFrame(part) for name, part in parts.items()}


def _finding(tables: dict[str, pd.DataFrame], met: str) -> Finding:
    answers = tables["answers"]
    frame = pd.DataFrame([_row(arm, tables) for arm in (CLEAN, RULE, CONTROL)])
    shares = zip(frame["row"], frame["value"], frame["n_new_sinks"], strict=True)
    told = {arm: (f"{share:.0%}", f"{n:,}") for arm, share, n in shares}
    right = f"right answers: {', '.join(f'{share} {arm}' for arm, (share, _) in told.items())}"
    new = f"new sinks: {told[RULE][1]} under the rule, {told[CONTROL][1]} under the control"
    fewer, more = -_apart(answers, "right"), _apart(answers, "new_sinks_per_1000")
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame[list(COLUMNS)],
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_dots(frame, "share of right answers", line=None),
        verdict=_worse(CLAIM, fewer, tables, f"{right}; {met}", "fewer right answers"),
        further=(
            _less_likely(tables["scores"]),
            _worse(SINKS, more, tables, new, "more new sinks per token"),
        ),
        tables=tables,
    )


def _worse(
    claim: str,
    apart: "pd.Series[float]",
    tables: Mapping[str, pd.DataFrame],
    why: str,
    what: str,
) -> Verdict:
    """Whether the rule is worse in most of the questions in which it differs from the control."""
    answers, short = tables["answers"], _short(tables["scores"])
    used = apart[~short.reindex(apart.index)]
    differs = used[used != 0]
    share = share_over_texts(differs > 0, differs.index.tolist(), n_claims=N_CLAIMS)
    edited = answers[(answers["arm"] == RULE) & answers["text_id"].isin(differs.index)]["n_edited"]
    return judge(
        claim,
        replace(share, n=int(edited.sum())),
        f"{why}; rule and control differ in {len(differs)} of {len(apart)} questions",
        statistic=f"share of questions with {what} under the rule, where it and the control differ",
        controls=CONTROLS,
        controlled=False,
        left_out={
            "questions in which the two are equal": int((used == 0).sum()),
            TOO_FEW: int(short.sum()),
        },
        n_claims=N_CLAIMS,
        always=True,
    )


def _less_likely(scores: pd.DataFrame) -> Verdict:
    """Whether the right answer is less likely under the rule than under the control."""
    short, lost = _short(scores), -_apart(scores, "log_likelihood")
    edited = scores[scores["arm"] == RULE].set_index("text_id")["n_edited"]
    used = lost[~short.reindex(lost.index) & (edited.reindex(lost.index) > 0)]
    median = median_over_texts(used, used.index.tolist(), n_claims=N_CLAIMS)
    clean, rule, control = (
        scores.loc[scores["arm"] == arm, "log_likelihood"].median()
        for arm in (CLEAN, RULE, CONTROL)
    )
    return judge(
        LIKELY,
        replace(median, n=int(edited[used.index].sum())),
        f"log-likelihood of the right answer: {clean:.2f} clean, {rule:.2f} under the rule, "
        f"{control:.2f} under the control (nats, medians over questions)",
        statistic="log-likelihood under the control minus that under the rule, median over "
        "questions",
        unit="nats",
        controls=CONTROLS,
        controlled=False,
        left_out={
            "questions in which no token meets the rule": int((edited == 0).sum()),
            TOO_FEW: int(short.sum()),
        },
        n_claims=N_CLAIMS,
        line=0.0,
        always=True,
    )


def _row(arm: str, tables: dict[str, pd.DataFrame]) -> Row:
    answers, scores, texts = (table[table["arm"] == arm] for table in tables.values())
    share = share_over_texts(answers["right"], answers["text_id"].tolist())
    return {
        "row": arm,
        "series": "",
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "n": share.n,
        "n_texts": share.n_texts,
        "log_likelihood": scores["log_likelihood"].median(),
        "perplexity": texts["perplexity"].median(),
        **{name: int(answers[name].sum()) for name in ("n_new_sinks", "n_met", "n_edited")},
    }


def _short(scores: pd.DataFrame) -> "pd.Series[bool]":
    """Whether the prompt of a question has fewer other tokens than tokens that meet the rule."""
    return scores[scores["arm"] == CONTROL].set_index("text_id")["n_short"] > 0


def _apart(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """By question: what the rule has more than the control, in the mean over samples."""
    table = rows.pivot_table(index="text_id", columns="arm", values=column)
    return table[RULE] - table[CONTROL]


main = main_of(run)

if __name__ == "__main__":
    main()
