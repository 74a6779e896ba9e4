"""Shapes and types of annotated functions, checked by jaxtyping and beartype while tests run.

A check costs 30 microseconds, which would make the tests take twice as long: some functions are
called a hundred thousand times. So each function is checked at its first calls in a process only.
"""

import collections
import functools
import inspect

import jaxtyping

FIRST = 2
"""At how many of its calls a function is checked."""


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
    """A function that is checked at its first calls, and made ready for that at the very first."""
    checked = functools.cache(lambda: checking(plain))
    left = FIRST

    @functools.wraps(plain)
    def sampled(*args, **kwargs):
        nonlocal left
        if not left:
            return plain(*args, **kwargs)
        left -= 1
        return checked()(*args, **kwargs)

    return sampled
