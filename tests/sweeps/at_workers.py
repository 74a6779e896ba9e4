"""Loaders of the planted model, as workers of Ray import them."""

import os
import signal
import time

from tests.sweeps.children import PLANTED


def hooked(hook):
    """The planted model, which calls `hook` with the tokens of every text."""

    def before(module, given):
        tokens = given[0].flatten().tolist()
        if len(tokens) == len(PLANTED.tokens):
            hook(tokens)

    PLANTED.model.embed.register_forward_pre_hook(before)
    return PLANTED.model


def counting_gpus(spec):
    """Calls the model by the GPUs that its process may use."""
    PLANTED.model.cfg.model_name = f"on GPUs {os.environ['CUDA_VISIBLE_DEVICES']}"
    return PLANTED.model


def as_it_is(spec):
    """The planted model."""
    return PLANTED.model


def slow(spec):
    """Takes a moment for every text."""
    return hooked(lambda tokens: time.sleep(0.3))


def deadly(spec):
    """Ends its process at the fifth text."""
    return hooked(die_of_one)


def die_of_one(tokens):
    if tokens[2] == 31:
        os.kill(os.getpid(), signal.SIGKILL)
