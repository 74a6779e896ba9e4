"""A clean pass whose layers stay in memory, for many edits of one text."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.memory import is_out_of_memory
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.observation.record import make_trace
from secondary_sinks.observation.tokens import token_strings
from secondary_sinks.progress import Progress
from secondary_sinks.types import Trace

KEPT_AT_MOST = 10**9
"""Largest estimated size of a pass that `CachedPass.if_small` keeps, in bytes."""


class CachedPass:
    """The layers of one clean pass in memory, so that replays of edits need no further pass.

    Memory grows with the numbers of layers and positions; `bytes_of` estimates it beforehand.
    """

    def __init__(
        self,
        model: HookedModel,
        tokens: Int[Tensor, "pos"],
        progress: Progress | None = None,
        *,
        trace: Trace | None = None,
    ) -> None:
        """Run the pass, and measure it unless its `trace` is there already.

        `progress` is called with (layers done, layers). Raises as `observe`.
        """
        self.model, self.tokens = model, tokens
        self._forward = layerwise_forward(model, tokens)
        self._views: list[LayerView] = []
        self._progress = progress
        self._trace = trace or self._measure()
        if trace:
            deque(self._pass(()), maxlen=0)

    @property
    def n_bytes(self) -> int:
        """Estimated size of this pass."""
        return self.bytes_of(self.model, len(self.tokens))

    @staticmethod
    def if_small(
        model: HookedModel,
        tokens: Int[Tensor, "pos"],
        progress: Progress | None = None,
        *,
        trace: Trace | None = None,
    ) -> "CachedPass | None":
        """A pass that takes `KEPT_AT_MOST` bytes or fewer; None for more, or if memory runs out."""
        if CachedPass.bytes_of(model, len(tokens)) > KEPT_AT_MOST:
            return None
        try:
            return CachedPass(model, tokens, progress, trace=trace)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    @staticmethod
    def bytes_of(model: HookedModel, n_pos: int) -> int:
        """Estimated memory for a text of `n_pos` tokens, in bytes.

        Residuals, MLP outputs, queries, keys, values and denominators of all layers.
        """
        cfg = model.cfg
        heads = cfg.n_heads + 2 * (cfg.n_key_value_heads or cfg.n_heads)
        numbers = 2 * cfg.d_model + heads * cfg.d_head
        return int(cfg.n_layers * n_pos * (numbers * cfg.dtype.itemsize + 4 * cfg.n_heads))

    def trace(self, text_id: str = "text") -> Trace:
        """The trace that `observe` gives for the same text, without another pass."""
        return replace(self._trace, text_id=text_id)

    def _measure(self) -> Trace:
        cfg, strings = self.model.cfg, token_strings(self.tokens, self.model.tokenizer)
        return make_trace(self._pass, cfg.n_layers, self.tokens, strings, "text", cfg.dtype)

    def _pass(self, watch: Sequence[int]) -> Iterator[LayerView]:
        """Run the text, and keep each layer before it is measured."""
        self._views.clear()
        options: dict[str, Any] = {"denominators": True, "watch": watch}
        for view in iter_layers(self.model, self.tokens, **options):
            self._views.append(view)
            yield view
            if self._progress:
                self._progress(view.layer + 1, self.model.cfg.n_layers)

    def iter_layers(
        self, hooks: Callable[[int], Sequence[Hook]] = lambda layer: ()
    ) -> Iterator[LayerView]:
        """Yield every layer in order, after calling the hooks that `hooks` gives for it."""
        for view in self._views:
            self._feed(view, hooks(view.layer))
            yield view

    def _feed(self, view: LayerView, hooks: Sequence[Hook]) -> None:
        """Call hooks with stored activations; for other hook points, run the layer once more."""
        held = {
            hook_name(view.layer, "mlp_out"): view.mlp_out,
            hook_name(view.layer, "resid_post"): view.resid_post,
        }
        if all(name in held for name, _ in hooks):
            for name, hook in hooks:
                hook(held[name][None], None)
            return
        self._forward.layer(view.layer).forward(view.resid_pre[None], hooks)
