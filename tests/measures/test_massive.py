import statistics

import torch

from secondary_sinks.measures import massive_activations


def test_massive_activations_are_large_and_dwarf_the_median():
    residual = torch.full((4, 5), 0.05)
    residual[0, 1], residual[2, 4], residual[3, 0] = 120.0, -101.0, 99.0
    assert massive_activations(residual).nonzero().tolist() == [[0, 1], [2, 4]]
    assert massive_activations(residual, least=98.0).sum() == 3
    assert massive_activations(residual, ratio=2100.0).nonzero().tolist() == [[0, 1]]


def test_they_equal_a_loop_over_all_coordinates():
    residual = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)) ** 7
    median = statistics.median_low(float(h) for h in residual.abs().reshape(-1))
    expected = [
        [abs(float(h)) > 5 and abs(float(h)) > 30 * median for h in row] for row in residual
    ]
    got = massive_activations(residual, least=5.0, ratio=30.0)
    assert got.tolist() == expected
    assert 0 < int(got.sum()) < got.numel()


def test_the_ratio_does_not_depend_on_units_the_least_size_does():
    residual = torch.full((3, 4), 0.01)
    residual[0, 0] = 150.0
    assert massive_activations(residual * 100).sum() == 1
    assert massive_activations(residual / 2).sum() == 0
