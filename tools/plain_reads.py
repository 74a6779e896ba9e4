"""Who reads a sink, and what for, in the plain way: the last two parts of `tools.plain_circuit`.

Readers are read off the clean pass. For the function of a sink its key or value is taken from all
later queries in the blocks that read it, one whole pass per cut. Definitions: docs/circuit.md.
"""

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tools.plain_model import Change, Pass
from tools.plain_parts import Judged, Row, members_of
from tools.plain_rule import ATTENDED, MIN_QUERIES, neighbours

ROUNDING = 1e-6
CUTS = ("without_attention", "without_value", "with_mean_value")


def blocks_of(judged: Judged) -> list[int]:
    """The blocks that read the states of the sink's layers; in each, the primary is another."""
    n_layers = len(judged.clean.states)
    return [layer + 1 for layer in judged.rule.layers[judged.pos] if layer + 1 < n_layers]


def later_mass(weights: Float[Tensor, "head query key"]) -> Float[Tensor, "head key"]:
    """Mean attention of the queries after each key; NaN for the last key."""
    n_pos = weights.shape[-1]
    return torch.stack([weights[:, key + 1 :, key].mean(1) for key in range(n_pos)], 1)


def later_even_share(n_pos: int) -> Float[Tensor, "key"]:
    """The same if every query spreads its attention evenly."""
    shares = 1 / torch.arange(1, n_pos + 1)
    return torch.stack([shares[key + 1 :].mean() for key in range(n_pos)])


def head_reads(mass: Float[Tensor, "head key"]) -> Bool[Tensor, "head key"]:
    """Whether each head reads each key: twice the even share, and twice what neighbours get."""
    n_pos = mass.shape[1]
    local = torch.stack([_known_neighbours(row) for row in mass])
    enough = torch.arange(n_pos - 1, -1, -1) >= MIN_QUERIES
    return (mass >= ATTENDED * torch.maximum(later_even_share(n_pos), local)) & enough


def _known_neighbours(row: Float[Tensor, "key"]) -> Float[Tensor, "key"]:
    """Medians without the last key, which no later query sees."""
    known = neighbours(row[:-1])
    return torch.cat([known, known[-1:]])


def reader_rows(judged: Judged, edges: pd.DataFrame, control: int) -> Iterator[Row]:
    """Attention and scores of the heads that the package names, and whose attention the sink gets.

    One row per measure: the head at which they differ most, at the sink or at its `control` token.
    """
    found: dict[str, list[Row]] = {}
    heads = edges[edges["head"].notna()]
    for block, head in dict.fromkeys(members_of(heads, 2)):
        mine = heads[(heads["layer"] == block) & (heads["head"] == head)]
        for key, column, words in ((judged.pos, "effect", ""), (control, "control", ", control")):
            plain = _of_head(judged, block, head, key, control)
            for measure, value in zip(mine["measure"], mine[column], strict=True):
                row = Row(part="reader", edited=f"head {block}.{head}{words}",
                          measure=measure, ours=value, plain=plain[measure])  # fmt: skip
                found.setdefault(measure, []).append(row)
    for rows in found.values():
        yield max(rows, key=lambda row: abs(row.difference))
    both = edges[edges["measure"] == "from_primary_readers"].iloc[0]
    share, chance = _from_primary(judged)
    for ours, own, words in (
        (both["effect"], share, ""),
        (both["control"], chance, ", control"),
    ):
        edited = f"{len(blocks_of(judged))} blocks{words}"
        yield Row(
            part="reader", edited=edited, measure="from_primary_readers", ours=ours, plain=own
        )


def _of_head(judged: Judged, block: int, head: int, pos: int, control: int) -> dict[str, float]:
    """All measures of a reader at one key, by name; lengths are compared with the control's."""
    clean = judged.clean
    queries, key = clean.queries[block, head], clean.keys[block, head, pos]
    even = later_even_share(len(judged.plain.tokens))
    score = judged.plain.scale * (queries[pos + 1 :] @ key).mean()
    shorter = clean.keys[block, head, control].norm() / key.norm()
    parts = _parts(judged, block, head, pos)
    return {
        "attention": float(clean.weights[block, head, pos + 1 :, pos].mean() - even[pos]),
        "score": float(score),
        **parts,
        "score_position": float(score) - sum(parts.values()),
        "score_length": float(score * (1 - shorter)),
        "query_cosine": _cosine(judged, block, head, pos),
    }


def _unrotated(judged: Judged, block: int, head: int) -> Float[Tensor, "pos d_head"]:
    """Queries of a head before the rotary embedding."""
    attention = judged.plain.layers[block].self_attn
    with torch.no_grad():
        made = attention.q_proj(judged.clean.parts["attention_in"][block])
    found: Tensor = made.unflatten(-1, (judged.plain.n_heads, -1))[:, head]
    return found


def _parts(judged: Judged, block: int, head: int, pos: int) -> dict[str, float]:
    """Scores of the bias of the key, of what its token has along the primary, and of the rest."""
    attention = judged.plain.layers[block].self_attn
    inputs = judged.clean.parts["attention_in"][block]
    primary = inputs[int(judged.rule.reference[block - 1])]
    along = (inputs[pos] @ primary) / (primary @ primary) * primary
    width = judged.clean.keys.shape[-1]
    group = judged.plain.n_heads // (len(attention.k_proj.weight) // width)
    rows = slice(head // group * width, (head // group + 1) * width)
    weight, bias = attention.k_proj.weight[rows].detach(), attention.k_proj.bias
    made = {
        "score_bias": torch.zeros(width) if bias is None else bias[rows].detach(),
        "score_primary": weight @ along,
        "score_rest": weight @ (inputs[pos] - along),
    }
    query = _unrotated(judged, block, head)[pos + 1 :].mean(0)
    return {name: float(judged.plain.scale * (query @ part)) for name, part in made.items()}


def _cosine(judged: Judged, block: int, head: int, pos: int) -> float:
    """Cosine of the queries that read a token with those that read the primary."""
    primary = int(judged.rule.reference[block - 1])
    later = slice(max(pos, primary) + 1, None)
    queries = _unrotated(judged, block, head)[later]
    paid = judged.clean.weights[block, head, later][:, [pos, primary]]
    own, other = (paid * (1 - paid)).T @ queries
    return float(torch.nn.functional.cosine_similarity(own, other, dim=0))


def _from_primary(judged: Judged) -> tuple[float, float]:
    """Share of the attention beyond the even share that comes from heads that read the primary.

    And the share of heads that do, weighted with the attention of each block: what as many heads of
    the same blocks have on average. Blocks in which all heads read it, or none does, do not count.
    """
    own = random = total = 0.0
    even = later_even_share(len(judged.plain.tokens))[judged.pos]
    for block in blocks_of(judged):
        mass = later_mass(judged.clean.weights[block])
        reads = head_reads(mass)[:, int(judged.rule.reference[block - 1])]
        beyond = [x if x > ROUNDING else 0.0 for x in (mass[:, judged.pos] - even).tolist()]
        share = float(reads.float().mean())
        if 0 < share < 1:
            own += sum(x for x, one in zip(beyond, reads.tolist(), strict=True) if one)
            random, total = random + share * sum(beyond), total + sum(beyond)
    return (own / total, random / total) if total > 0 else (float("nan"), float("nan"))


def function_rows(judged: Judged, edges: pd.DataFrame) -> Iterator[Row]:
    """What later tokens lose without the sink's key or value."""
    blocks = blocks_of(judged)
    shown = f"blocks {blocks[0]} to {blocks[-1]}" if blocks else "no block"
    plain = {"delivered": _delivered(judged, blocks)}
    for cut in CUTS:
        run = judged.plain.run([_cut(judged, block, cut) for block in blocks], logits=True)
        kl, rise = _after(judged, run)
        plain |= {f"kl_{cut}": kl, f"loss_{cut}": rise}
    for measure, effect in zip(edges["measure"], edges["effect"], strict=True):
        yield Row(part="function", edited=shown, measure=measure, ours=effect,
                  plain=plain[measure])  # fmt: skip


def _delivered(judged: Judged, blocks: list[int]) -> float:
    """Length of what heads write for the sink, per unit of the attention that later queries pay."""
    attention = written = 0.0
    for block in blocks:
        paid = judged.clean.weights[block, :, judged.pos + 1 :, judged.pos].sum(1)
        weight = judged.plain.layers[block].self_attn.o_proj.weight.detach()
        by_head = weight.unflatten(1, (judged.plain.n_heads, -1))
        value = judged.clean.values[block, :, judged.pos]
        length = torch.einsum("mhd,hd->hm", by_head, value).norm(dim=1)
        attention, written = attention + float(paid.sum()), written + float((paid * length).sum())
    return written / attention if attention else float("nan")


def _cut(judged: Judged, block: int, cut: str) -> Change:
    """Take the sink from all later queries of one block."""
    pos = judged.pos
    norm, usual = judged.rule.measured.norm, 2 * judged.rule.measured.norm.median(1, True).values
    ordinary = (norm <= usual).all(0)

    def hide(scores: Float[Tensor, "head query key"]) -> None:
        scores[:, pos + 1 :, pos] = -torch.inf

    def drop(weights: Float[Tensor, "head query key"]) -> None:
        weights[:, pos + 1 :, pos] = 0

    def share(weights: Float[Tensor, "head query key"]) -> None:
        for query in range(pos + 1, weights.shape[1]):
            keys = [key for key in range(query + 1) if bool(ordinary[key]) and key != pos]
            freed = weights[:, query, pos].clone()
            weights[:, query, pos] = 0
            weights[:, query, keys] += freed[:, None] / max(1, len(keys))

    ways: dict[str, tuple[str, Callable[[Tensor], None]]] = {
        "without_attention": ("scores", hide),
        "without_value": ("weights", drop),
        "with_mean_value": ("weights", share),
    }
    place, write = ways[cut]
    return Change(layer=block, place=place, write=write)


def _after(judged: Judged, run: Pass) -> tuple[float, float]:
    """Mean divergence and rise of the loss at the positions after the sink, in nats."""
    assert run.logits is not None
    assert judged.clean.logits is not None
    after = slice(judged.pos + 1, -1)
    clean, cut = (one[after].double().log_softmax(-1) for one in (judged.clean.logits, run.logits))
    target = judged.plain.tokens[judged.pos + 2 :, None]
    rise = clean.gather(1, target) - cut.gather(1, target)
    return float((clean.exp() * (clean - cut)).sum(-1).mean()), float(rise.mean())
