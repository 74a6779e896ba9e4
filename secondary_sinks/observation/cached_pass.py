"""A clean pass whose layers stay in memory, for those who ask much of one text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation.layers import LayerView, iter_layers, paid_to
from secondary_sinks.observation.record import trace_of
from secondary_sinks.observation.tokens import token_strings
from secondary_sinks.types import Trace


class CachedPass:
    """The layers of one clean pass, kept: replays of edits then need no pass of their own.

    It takes memory that grows with layers and positions (`bytes_of` says how much beforehand).
    """

    def __init__(
        self,
        model: HookedModel,
        tokens: Int[Tensor, "pos"],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Walk once; `progress` is called with (layers done, layers). Raises as `observe`."""
        self.model, self.tokens = model, tokens
        self._passage = layerwise_forward(model, tokens)
        self._views = []
        for view in iter_layers(model, tokens, denominators=True):
            self._views.append(view)
            if progress:
                progress(view.layer + 1, model.cfg.n_layers)

    @staticmethod
    def bytes_of(model: HookedModel, n_pos: int) -> int:
        """About what the layers of a text of `n_pos` tokens take, in bytes.

        Residual, MLP output, queries, keys, values, and denominators, of every layer.
        """
        cfg = model.cfg
        heads = cfg.n_heads + 2 * (cfg.n_key_value_heads or cfg.n_heads)
        numbers = 2 * cfg.d_model + heads * cfg.d_head
        return int(cfg.n_layers * n_pos * (numbers * cfg.dtype.itemsize + 16 * cfg.n_heads))

    def trace(self, text_id: str = "text") -> Trace:
        """What `observe` gives of the same text, without another pass."""
        cfg, strings = self.model.cfg, token_strings(self.tokens, self.model.tokenizer)
        return trace_of(self._watched, cfg.n_layers, self.tokens, strings, text_id, cfg.dtype)

    def _watched(self, watch: Sequence[int]) -> Iterator[LayerView]:
        """The layers, with what each query pays to some keys: from the kept denominators."""
        for view in self.iter_layers():
            watched = tuple(watch)
            yield replace(view, watched=watched, paid=paid_to(view, watched).cpu())

    def iter_layers(
        self, hooks: Callable[[int], Sequence[Hook]] = lambda layer: ()
    ) -> Iterator[LayerView]:
        """Yield every layer in order, and feed the hooks that `hooks` gives of it."""
        for view in self._views:
            self._feed(view, hooks(view.layer))
            yield view

    def _feed(self, view: LayerView, hooks: Sequence[Hook]) -> None:
        """Give hooks what was kept; for any other hook point, run the layer once more."""
        held = {
            hook_name(view.layer, "mlp_out"): view.mlp_out,
            hook_name(view.layer, "resid_post"): view.resid_post,
        }
        if all(name in held for name, _ in hooks):
            for name, hook in hooks:
                hook(held[name][None], None)
            return
        self._passage.layer(view.layer).forward(view.resid_pre[None], hooks)
