"""When two floats that were computed in two ways count as equal: one rule for all tests.

Float32 sums depend on processor, number of threads and build of torch. A bound that one machine
happens to keep is no bound, so a bound comes from what is compared:

* A computation with weights is compared at `ROOM` times its own rounding: how far its result moves
  when each weight is moved by one unit in its last place (`rounding`). Rounding in two orders of
  summation is of that size, on every processor; whatever amplifies it (large scores in a softmax,
  terms that cancel) amplifies both.
* A sum, product or mean of given numbers is compared at a bound relative to the largest number that
  goes in; float32 keeps 6e-8 of it, bounds leave at least a factor of three above what is seen.
* What is copied, counted or compared is compared exactly.

`pytest --margins` prints the largest difference / bound of each test; none is above one third.
"""

import torch

ROOM = 16
"""Two honest computations differ by 0.2 to 2.5 times `rounding`, over all families."""
UNIT = 2.0**-23
"""One unit in the last place of float32, relative."""


def moved(model, seed):
    """The model, with each weight moved up or down by one unit in its last place, in place."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            sign = torch.randint(0, 2, weight.shape, generator=chance) * 2 - 1
            weight.mul_(1 + UNIT * sign)
    return model


def rounding(make, results, distance):
    """How far the results of a model move with its last places, by name; at least one unit.

    `make()` gives the model anew, `results(model)` a dict of tensors or lists of them, and
    `distance(one, other)` is the difference that the test judges.
    """
    plain = results(make())
    drawn = [results(moved(make(), seed)) for seed in (0, 1)]
    return {
        name: max(UNIT, *(distance(one[name], value) for one in drawn))
        for name, value in plain.items()
    }


def within(distance, rounded, note=None):
    """Assert that a distance is at most `ROOM` times what rounding makes."""
    torch.testing.assert_close(
        torch.tensor(float(distance), dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
        rtol=0,
        atol=ROOM * float(rounded),
        msg=lambda text: f"{note}: {text}",
    )
