"""Shapes and types of annotated functions, checked by jaxtyping and beartype while tests run.

A check costs 30 microseconds, which would make the tests take twice as long: some functions are
called a hundred thousand times. So each function is checked at its first calls in a process, and
then now and again.
"""

import collections
import functools
import inspect

import jaxtyping

FIRST, EVERY = 5, 1000
"""A function is checked at its first 5 calls, and then at every 1000th."""


def check_shapes(package):
    """Check the functions of a package that is imported from now on."""
    whole = jaxtyping.jaxtyped

    def sampled(*, typechecker):
        return lambda target: check(target, whole(typechecker=typechecker))

    sampled.whole = whole
    jaxtyping.jaxtyped = sampled
    jaxtyping.install_import_hook(package, "beartype.beartype")


made = collections.Counter()
"""How often each function was defined: those within functions are defined again and again."""


def check(target, checking):
    """A function or class, with `checking` applied to some of its calls."""
    if inspect.isfunction(target):
        made[target.__code__] += 1
        return sample(target, checking) if made[target.__code__] <= FIRST else target
    plain = vars(target).get("__init__") if inspect.isclass(target) else None
    checked = checking(target)
    if plain is not None:
        init = checked.__init__
        checked.__init__ = sample(plain, lambda _: init)
    return checked


def sample(plain, checking):
    """A function that is checked at some calls, and made ready for that at its first one."""
    checked = functools.cache(lambda: checking(plain))
    calls = 0

    @functools.wraps(plain)
    def sampled(*args, **kwargs):
        nonlocal calls
        calls += 1
        chosen = checked() if calls <= FIRST or calls % EVERY == 0 else plain
        return chosen(*args, **kwargs)

    return sampled
