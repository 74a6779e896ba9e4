"""Layout of a planted model: axes of the residual, dimensions of heads, token ids."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.testing.plant_spec import Plant

D_HEAD, N_HEADS, D_CONTENT, N_ORDINARY = 8, 4, 48, 16
SINK, GIVER = 0, 1
"""Residual axes: the sink direction, and the marker of tokens that attention copies from."""
SINK_DIM, GIVER_DIM, COPY_DIM = 4, 5, 7
"""Dimensions of a head: keys by the sink axis, keys of givers, and the copied value. The first four
hold content, and are rotated if positions are rotary."""
MARK = 2.0
CONTENT_LENGTH = 0.9 * D_CONTENT**0.5
PRIMARY_SCORE = 4.5
"""Attention score of a token of strength 400; ordinary tokens have 0."""


class Layout:
    """Axes of the residual, token ids and directions, with the random generator."""

    def __init__(self, plants: Sequence[Plant], anisotropy: float, seed: int) -> None:
        """Assign axes and ids to plants, and draw the common direction."""
        self.plants, self.n_plants, self.anisotropy = tuple(plants), len(plants), anisotropy
        self.generator = torch.Generator().manual_seed(seed)
        self.givers = sorted({one.giver for one in plants if one.copied_at})
        self.n_special = max(16, self.n_plants + len(self.givers))
        first = 2 + 2 * self.n_plants
        self.content = slice(first, first + D_CONTENT)
        identified = [index for index, one in enumerate(plants) if one.identity is not None]
        self.identity_axes = {
            index: self.content.stop + rank for rank, index in enumerate(identified)
        }
        """Axis that identifies the token id of a plant with `identity`."""
        self.d_model = self.content.stop + len(identified)
        self.common = torch.zeros(self.d_model)
        self.common[self.content] = torch.nn.functional.normalize(self.randn(D_CONTENT), dim=0)
        lean = anisotropy / (anisotropy**2 + CONTENT_LENGTH**2) ** 0.5
        self.direction = lean * self.common
        self.direction[SINK] = (1 - lean**2) ** 0.5

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers from the layout's generator."""
        return torch.randn(shape, generator=self.generator)

    def marker(self, index: int) -> int:
        """The axis that marks the token of plant `index`."""
        return 2 + 2 * index

    def own_axis(self, index: int) -> int:
        """The axis of one plant, which `sideways`, `chain`, `identity` and `trigger` use."""
        return 3 + 2 * index

    def written_along(self, index: int) -> Float[Tensor, "d_model"]:
        """Direction along which a plant is written: the sink direction, or its own axis.

        A plant with `attended`, `read_by` or `value` also has a small component along its own axis,
        which heads read.
        """
        own, one = torch.eye(self.d_model)[self.own_axis(index)], self.plants[index]
        own_share = 0.1 if one.has_own_axis else 0.0
        return own if one.sideways else self.direction + own_share * own

    def tokens(self, n_pos: int, twins: int) -> Int[Tensor, "pos"]:
        """Random ids; plants and givers have ids of their own, plants also have twins."""
        low, high = self.n_special, self.n_special + N_ORDINARY
        tokens = torch.randint(low, high, (n_pos,), generator=self.generator)
        special = [one.pos for one in self.plants] + self.givers
        tokens[special] = torch.arange(len(special))
        taken = set(special)
        for one in self.plants * twins:
            free = [pos for pos in range(1, n_pos - 16) if pos not in taken]
            if free:
                twin = min(free, key=lambda pos: abs(pos - one.pos))
                tokens[twin] = tokens[one.pos]
                taken.add(twin)
        return tokens

    def key_weight(self) -> float:
        """Key weight that gives a score of 4.5 to the sink axis of a token of strength 400."""
        state = 400.0 * self.direction + self.anisotropy * self.common
        return PRIMARY_SCORE * float(state.norm() / state[SINK]) / self.d_model**0.5
