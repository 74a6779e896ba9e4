"""The sections with measurements, each with its question, figures and tables."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from secondary_sinks.questions import (
    QUESTIONS,
    Answer,
    Question,
    Shown,
    damage_by_layer,
    levels_in,
    shares_of_roles,
)
from secondary_sinks.report.circuit import circuit_section
from secondary_sinks.report.claims import ROLES
from secondary_sinks.report.figures import (
    ablations,
    answer_panels,
    levels,
    lives,
    profiles,
    verdict_panels,
)
from secondary_sinks.report.section import Section, Table, as_verdicts, without_constants
from secondary_sinks.report.tested import nothing_shown, prolonging_layers
from secondary_sinks.report.words import count, format_number, percent
from secondary_sinks.types import Level, Levels
from secondary_sinks.types.levels import FREQUENT
from secondary_sinks.types.lists import join_words

DAMAGED_BY = {"zero": "KL, zeroed", "mean:twins": "KL, twin mean"}
"""Edits whose damage is shown with the roles, and their column headings."""
KL = (
    "KL: divergence (nats) between the model's clean prediction at the sink and that without the "
    "MLP's output (zeroed, or replaced by that at the same token elsewhere); median over all "
    "sinks tested. Where it is large, the edit destroys more than the sink."
)


def roles_section(
    record: Mapping[str, Any], roles: pd.DataFrame, effects: pd.DataFrame | None
) -> Section:
    """How often each MLP has which role, by level; MLPs without any role are left out."""
    found = shares_of_roles(roles)
    damage = {} if effects is None else _damage(effects, roles)
    edits = DAMAGED_BY if damage else {}
    found = found[found["neither"] < 1]
    rows = tuple(
        (
            str(row["level"]),
            str(row["layer"]),
            *(percent(row[role]) for role in ("writer", "enabler", "neither", "undecided")),
            *(nats(damage.get((row["level"], row["layer"], edit))) for edit in edits),
            str(row["n_sinks"]),
            str(row["n_texts"]),
        )
        for row in found.to_dict("records")
    )
    head = ("sinks", "MLP", "writer", "enabler", "neither", "undecided", *edits.values())
    head = (*head, "sinks tested", "texts")
    without = len(roles.loc[roles["n_donors"] == 0, ["text_id", "pos"]].drop_duplicates())
    says = [
        "Which MLP writes the sinks, and which ones only enable the writer? Replacing a writer's "
        "output by that at the same token elsewhere ends the sink; patching its output in there "
        "makes a sink; restoring it alone brings the sink back; and it is aligned with the "
        "primary. Replacing an enabler's output ends the sink too, but restoring a later MLP's "
        "output alone brings it back."
    ]
    words = f"{count(without, 'sink')} undecided: no token twin in their own text or a free one."
    says += [words] if without else []
    says += [KL] if damage else []
    numeric = tuple(range(1, len(head)))
    table = without_constants(Table(head=head, rows=rows, numeric=numeric)) if rows else None
    return Section(
        name="roles",
        title=ROLES,
        says=tuple(says),
        judged=verdict_panels("roles", as_verdicts(record.get("writers", ()))),
        table=table,
    )


def _damage(effects: pd.DataFrame, roles: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """Median divergence at the sinks, by level, layer and edit."""
    return {
        (name, int(str(layer)), str(edit)): float(value)
        for name, part in levels_in(roles)
        for edit, column in damage_by_layer(effects, part).items()
        for layer, value in column.items()
    }


def nats(value: float | None) -> str:
    """A divergence in nats; a dash if it was not measured.

    >>> nats(0.3461), nats(None)
    ('0.35', '–')
    """
    return format_number(math.nan if value is None else value, ".2g")


def sections(
    record: Mapping[str, Any],
    sinks: pd.DataFrame,
    trace: pd.DataFrame,
    effects: pd.DataFrame | None,
    answers: Mapping[str, Answer],
    found: Levels,
    roles: pd.DataFrame | None = None,
) -> list[Section]:
    """The sections in order, without those of questions that were not asked."""
    n_layers = int(record["model"]["n_layers"])
    shown = Shown(sinks=sinks, n_layers=n_layers)
    first, *others = QUESTIONS
    asked = [question for question in others if question.name in answers]
    rest = [
        _question_section(question, answers[question.name], shown)
        for question in sorted(asked, key=lambda one: one.circuit)
    ]
    n_parts = sum(question.circuit for question in asked)
    rest[len(rest) - n_parts : len(rest) - n_parts] = circuit_section(answers, sinks, n_layers)
    return [
        _through_the_layers(sinks, trace),
        _levels(found, n_layers, sinks),
        *([] if roles is None else [roles_section(record, roles, effects)]),
        _ablation_section(first, record, effects, answers.get(first.name), shown),
        *rest,
    ]


def not_asked(answers: Mapping[str, Answer]) -> str:
    """The questions that a run did not ask and how to ask them, as one sentence; or empty."""
    missing = [question for question in QUESTIONS[1:] if question.name not in answers]
    if not missing:
        return ""
    titles = {question.name: question.title.lower() for question in missing}
    named = [name if name == title else f"{title} ({name})" for name, title in titles.items()]
    return f"Not asked: {join_words(named)}. To ask, add --ask NAME or --ask all to the command."


def _through_the_layers(sinks: pd.DataFrame, trace: pd.DataFrame) -> Section:
    none = (
        ()
        if (sinks["kind"] == "secondary").any()
        else ("No secondary sink was found, so no curves are shown.",)
    )
    return Section(
        name="layers",
        title="Through the layers",
        says=none,
        panels=(profiles(trace, sinks), *lives(trace, sinks)),
    )


def _levels(found: Levels, n_layers: int, sinks: pd.DataFrame) -> Section:
    rows = tuple(_level_row(level) for level in found.levels)
    head = ("level", "created at", "lifetime", "sinks", "95% interval", "texts", "stability")
    return Section(
        name="level-map",
        title="Levels",
        says=_about_levels(found),
        panels=tuple(levels(found, n_layers, sinks)),
        table=Table(head=head, rows=rows, numeric=tuple(range(7))) if rows else None,
    )


def _about_levels(found: Levels) -> tuple[str, ...]:
    if not found.n_sinks:
        return ("No secondary sink was found, so there are no levels.",)
    frequent = (
        f"{count(found.n_frequent, 'cell')} of the map with at least {FREQUENT} sinks. The paper's "
        "heat maps suggest this count, but it grows with the number of texts."
    )
    if not found.levels:
        return (
            "No level stands out from chance. A level is a group of sinks with a similar creation "
            "layer and lifetime, found in at least five texts.",
            frequent,
        )
    stable = ""
    if found.resamples:
        share = percent(found.same_number)
        stable = f", the same number in {share} of {found.resamples} resamples of the texts"
    return (
        f"{count(len(found.levels), 'level')} in {count(found.n_texts, 'text')}{stable}; "
        f"{count(found.n_unassigned, 'sink')} in no level. Stability is the mean overlap (Jaccard "
        "index) with the most similar level in resamples of the texts: 0.75 or more is stable, "
        "below 0.6 is not.",
        frequent,
    )


def _level_row(level: Level) -> tuple[str, ...]:
    created = _mode(level.l_start, level.l_start_low, level.l_start_high)
    lifetime = _mode(level.lifetime, level.lifetime_low, level.lifetime_high)
    return (
        str(level.level),
        created,
        lifetime,
        str(level.n_sinks),
        f"{level.low:.0f} to {level.high:.0f}",
        str(level.n_texts),
        f"{level.jaccard:.2f}",
    )


def _mode(most: int, low: int, high: int) -> str:
    """The most frequent value, and the range if values differ."""
    return f"{most}" if low == high else f"{most} ({low} to {high})"


def _ablation_section(
    question: Question,
    record: Mapping[str, Any],
    effects: pd.DataFrame | None,
    answer: Answer | None,
    shown: Shown,
) -> Section:
    """The run's own ablations, then the further ones of the question `necessity`."""
    own = [] if effects is None or effects.empty else ablations(effects, dict(record))
    missing = nothing_shown(effects, len(own))
    says = [question.asks, *([missing] if missing else prolonging_layers(dict(record)))]
    if answer is None:
        n_ways = len((record["edit"] or "zero").split(","))
        says.append(f"Ways to ablate that were tried: {n_ways}. --ask necessity tries four.")
    verdicts = as_verdicts(record.get("verdicts", ())) if answer is None else answer.verdicts
    return Section(
        name=question.name,
        title=question.title,
        says=tuple(says),
        judged=verdict_panels(question.name, verdicts),
        panels=(
            *own,
            *([] if answer is None else answer_panels(question, answer, shown)),
        ),
        table=None if answer is None else _forming(answer),
    )


def _forming(answer: Answer) -> Table | None:
    """How many sinks are formed by which set of MLPs."""
    found = answer.tables["forming"]
    if found.empty:
        return None
    counts = found.groupby(["layers", "how"], sort=False).size().sort_values(ascending=False)
    words = {
        "one": "this MLP", "each": "every one of these MLPs",
        "redundant": "at least one of these MLPs", "none": "no MLP that was found",
    }  # fmt: skip
    rows = tuple(
        (str(row["layers"]), words[str(row["how"])], str(row["n"]))
        for row in counts.reset_index(name="n").to_dict("records")
    )
    return Table(head=("forming MLPs (layers)", "the sink needs", "sinks"), rows=rows, numeric=(2,))


def _question_section(question: Question, answer: Answer, shown: Shown) -> Section:
    panels = answer_panels(question, answer, shown)
    says = question.asks
    if not panels:
        says += f" {answer.verdicts[0].why[:1].upper()}{answer.verdicts[0].why[1:]}."
    return Section(
        name=question.name,
        title=question.title,
        says=(says,),
        judged=verdict_panels(question.name, answer.verdicts),
        panels=tuple(panels),
    )
