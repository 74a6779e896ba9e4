"""The claims under test, sharply: what the paper says, and which verdict decides what.

The rows of the table of claims x models (`experiments.claims_table`), grouped by the paper's claims
(Wong et al. 2025, arXiv 2512.22213). A row points at one verdict of an experiment by its place
among them, so that no sentence is read back.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A group of rows: one claim of the paper, or what else is asked."""

    name: str
    title: str
    says: str
    """What the paper says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: a claim in the form that is tested, and the verdict about it."""

    part: str
    """Name of its `Part`."""
    sharp: str
    """What is tested, with the line that the statistic is held against."""
    experiment: str
    verdict: int = 0
    """Place of the verdict: 0 answers the question of the experiment, the others are further."""
    and_on: bool = False
    """Whether all verdicts from this place on are shown: one for each level or needed layer."""
    last: bool = False
    """Whether the experiment has a last verdict with a row of its own, which is not among these."""

    @property
    def end(self) -> int | None:
        """Place before which they end; negative from the end, None for all."""
        return -1 if self.last and self.verdict >= 0 else None


PARTS = (
    Part(
        name="writer",
        title="Claim 1: one MLP writes the secondary sinks of a level, along the primary",
        says="Specific middle-layer MLPs form secondary sinks: at one layer per level, the MLP "
        "maps a token that is nothing like the primary onto the direction of the primary sink.",
    ),
    Part(
        name="norm",
        title="Claim 2: the norm of what it writes sets the attention drawn",
        says="The L2 norm of the vector that these MLPs write sets the sink's score and lifetime.",
    ),
    Part(
        name="primary",
        title="Claim 3: the primary weakens as secondary sinks arise",
        says="The primary sink weakens in middle layers, coinciding with the emergence of "
        "secondary sinks.",
    ),
    Part(
        name="levels",
        title="Levels",
        says="Larger models have several levels of secondary sinks: few pairs of creation layer "
        "and lifetime (three in QwQ-32B, six in Qwen3-14B).",
    ),
    Part(
        name="tokens",
        title="Tokens",
        says="Sinks have little meaning of their own; most of the released ones are spaces and "
        "digits.",
    ),
    Part(
        name="further",
        title="Further",
        says="Secondary sinks are sinks of the known kind in weaker form; what follows from that, "
        "and what is asked beyond the paper.",
    ),
)
"""The groups, in the order of the table."""

TESTED: dict[str, dict[tuple[str, int], str]] = {
    "writer": {
        ("writers", 0): "Role: one MLP alone writes a secondary sink, at more than half of the "
        "sinks",
        ("writers", 3): "Level: the same MLP writes more than half of the sinks of a level",
        ("writers", 1): "Mediation: with all earlier MLPs zeroed, the creation layer's MLP alone "
        "brings back more than half of the sinks",
        ("writers", 2): "Direction: what it writes is nearer to the primary than 99 % of random "
        "directions of the same norm, at more than half of the sinks and not at their controls",
        ("mlp_anatomy", 0): "Direction: what it writes has a cosine above one half with the "
        "primary's state, at more than half of the sinks and not at their controls. Only what it "
        "writes is judged: that it was nothing like the primary before is not (the page has the "
        "cosines at the MLP's input)",
        ("mlp_anatomy", 1): "By direction alone: of the MLPs up to the creation layer, this one "
        "writes most along the primary, at more than half of the sinks and not at their controls",
        ("norm_dose", 2): "Direction needed: turned by 90 degrees at the same norm, with nothing "
        "left along its own direction, what the creation layer's MLP writes leaves more than half "
        "of the sinks less than half of their attention, and the MLP before, turned, does not",
        ("mlp_patching", 1): "Needed, by exchange: with what the forming MLPs write at a token "
        "that is no sink, more than half of the sinks end, and not with the same at other MLPs",
        ("mlp_ablation", 0): "Needed: without the MLP of one layer, more than half of the sinks "
        "end by the criterion, and lose more than a tenth of their attention beyond controls. "
        "Shown: each layer for which this holds; else the one nearest to it",
        ("mlp_ablation", -1): "Needed together: without the MLPs that form sinks in earlier "
        "texts, more than half of the sinks end, and not without as many other MLPs",
        ("mlp_patching", 0): "Enough: what the creation layer's MLP writes at a sink makes more "
        "than half of the control tokens sinks, and its outputs at ordinary tokens do not",
    },
    "norm": {
        ("norm_dose", 0): "Dose: scaled up from its own norm to 4 times, what the creation layer's "
        "MLP writes draws more attention: by a rank correlation above one half, at sinks and "
        "beyond the control's, and by more than a tenth",
        ("norm_dose", 1): "Dose: scaled up to 4 times, it makes sinks attended at more layers (the "
        "same correlations, and a tenth more layers)",
        ("norm_dose", 3): "Norm needed: more than a sixteenth of it; at that, more than half of "
        "the sinks lose half of their attention, and not with the MLP before shortened",
        ("norm_and_score", 0): "Within texts: among sinks of one text and creation layer, the "
        "longer what the MLP writes, the more attention (rank correlation above 0, permutations)",
        ("norm_and_score", 1): "Within texts: the longer, the more layers attended",
        ("norm_and_score", 2): "Within texts: the longer, the higher the score (query times key)",
        ("norm_and_score", 3): "Within texts: the longer the whole residual at the creation layer, "
        "the more attention",
        ("norm_and_score", 4): "Within texts: the longer the residual, the more layers attended",
        ("norm_and_score", 5): "Within texts: the longer the residual, the higher the score",
    },
    "primary": {
        ("primary_weakening", 0): "Coincidence: queries after a new secondary sink pay the "
        "primary less, beyond queries before it and beyond texts without a sink (median over pairs "
        "of texts)",
    },
    "levels": {
        ("sink_levels", 0): "More than half of the sinks belong to a level, and there are several "
        "levels (can be contradicted, but not supported: levels are found in the same sinks)",
    },
    "tokens": {
        ("sink_tokens", 0): "More than half of the sinks hold no letter, where a random ordinary "
        "token of their text holds one",
    },
    "further": {
        ("criterion_check", 0): "More than half of the tokens that the paper's criterion or ours "
        "finds, both find",
        ("norms", 0): "More than half of the sinks have shorter values than their controls",
        ("norms", 1): "So have they shorter keys, before the norm of keys and the rotation",
        ("norms", 2): "So have they shorter keys as they are used, after both",
        ("separability", 0): "A linear classifier tells sinks from the same tokens by what the "
        "creation layer's MLP writes, in texts not seen before: accuracy above 75 %, median over "
        "texts, and by as much above that for ordinary tokens of one id at like places",
        ("separability", 1): "So does one by what the attention of that layer writes",
        ("mlp_directions", 0): "Few principal components of its input trigger the MLP at more "
        "than half of the sinks, and those of controls do not",
        ("prefix_entropy", 0): "The entropy of the text so far falls with a sink, and more than "
        "with its control",
        ("neurons", 0): "Without one in a hundred neurons of the forming MLPs, more than half of "
        "the sinks end, and not without random ones",
        ("neurons", 1): "With these neurons alone, more than half of the sinks stay, and not with "
        "random ones",
        (
            "triggers",
            0,
        ): "More than half of the sinks end with what their twins have at a fourth of "
        "the attention heads up to their layer, 16 at most, and not at random heads instead",
        ("triggers", 1): "The attention of one layer is the trigger of more than half of the "
        "sinks, and not that of all other layers up to the creation layer",
        ("triggers", 2): "One attention head is the trigger of more than half of the sinks, and "
        "not as many random heads of its layer",
        ("triggers", 3): "In models with learned positions: more than half of the sinks end with "
        "a twin's attention outputs and make twins sinks with theirs, and random tokens do not",
        ("primary_weakening", 1): "Taken from the primary: removed, the sink gives it back "
        "attention of later queries, as any softmax does, beyond the same edit at a control token "
        "(median over texts)",
        ("primary_weakening", 2): "Beyond the softmax: the primary gains more of the freed "
        "attention than the softmax alone gives it, by more than one hundredth",
        ("replacement", 0): "Removed, more than half of the sinks are replaced by another token, "
        "beyond the same edit at controls",
        ("replacement", 1): "More than half of the later sinks of a text end with its first one, "
        "beyond the same edit at controls",
        ("input_controls", 0): "More secondary sinks arise in the texts as they are than with "
        "tokens in random order, with random tokens, when read again, and without the first "
        "token; in more than half of the texts a token becomes a sink when a mask hides all before "
        "it, but not when it hides all but one token",
        ("readers", 0): "For each level: heads that also read the primary pay more than half of "
        "the attention to the sinks, and more than as many random heads; and heads that attend "
        "more to the primary attend more to the sinks (rank correlation above 0, beyond controls)",
        ("function", 0): "More than half of the sinks of a level are no-ops: their values deliver "
        "less, and tell later predictions less, than those of ordinary keys of equal attention",
        ("eviction", 0): "Dropped from the cache, the sinks cost a hundredth of the loss or more, "
        "beyond as many random keys",
        ("eviction", 1): "So they do with the primary dropped too",
        ("eviction", 2): "Kept in a short cache, the sinks save a hundredth of the loss or more, "
        "compared with as many heavy hitters",
        ("accuracy", 0): "With the tokens of a rule edited while the model reads and writes, fewer "
        "answers are right than with as many other tokens edited, in most questions in which the "
        "two differ",
        ("accuracy", 1): "The right answer is less likely, too (median over questions)",
        ("accuracy", 2): "More other tokens become sinks, too, in most questions in which the two "
        "differ",
        ("accuracy", 3): "Texts are less likely, too (median over texts)",
        ("their_steering", 0): "The authors' rule edits the sinks that arise at its layer and "
        "little else: more than half of the tokens that it edits, or misses, are sinks that it "
        "edits",
        ("their_steering", 1): "Silenced by the authors' intervention, sinks lose half of their "
        "attention or more, beyond matched tokens",
        ("their_steering", 2): "At twice the length, their intervention does to a sink something "
        "else than an edit of this sink alone, by a tenth of its attention or more",
        ("their_steering", 3): "Zeroing by the authors' rule raises the loss of later tokens by a "
        "hundredth or more, beyond zeroing at as many matched tokens",
    },
}
"""By part: what is tested, by (experiment, place of its verdict), in the order of the table."""
AND_ON = {
    *(("writers", 3), ("mlp_ablation", 0)),
    *(("input_controls", 0), ("readers", 0), ("function", 0)),
}
"""Rows that show all verdicts from this place on: one for each level or needed layer."""
WITH_LAST = {"mlp_ablation"}
"""Experiments with any number of verdicts and one more, whose place is -1."""
CLAIMS = tuple(
    Row(
        part=part,
        sharp=sharp,
        experiment=place[0],
        verdict=place[1],
        and_on=place in AND_ON,
        last=place[0] in WITH_LAST,
    )
    for part, rows in TESTED.items()
    for place, sharp in rows.items()
)
"""The rows, in their order within each part."""
