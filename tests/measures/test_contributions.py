import pytest
import torch

from secondary_sinks.measures import layer_contributions, neuron_contributions, projection


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_projection_by_hand_keeps_sign_and_length():
    vectors = torch.tensor([[3.0, 4.0], [-5.0, 0.0], [4.0, -3.0]])
    got = projection(vectors, torch.tensor([6.0, 8.0]))
    torch.testing.assert_close(got, torch.tensor([5.0, -3.0, 0.0]))


def test_projection_equals_a_loop_and_depends_on_the_direction_only():
    vectors, direction = random(4, 3, 8), random(8, seed=1)
    length = sum(float(x) ** 2 for x in direction) ** 0.5
    for a, b in ((a, b) for a in range(4) for b in range(3)):
        dot = sum(float(x) * float(y) for x, y in zip(vectors[a, b], direction, strict=True))
        got = projection(vectors, direction)[a, b]
        assert float(got) == pytest.approx(dot / length, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(projection(vectors, 7 * direction), projection(vectors, direction))
    assert projection(vectors, torch.zeros(8)).isnan().all()


def test_a_small_part_is_not_lost_beside_a_massive_one():
    vectors = torch.tensor([3e7, 1.0, -3e7])
    assert float(projection(vectors, torch.ones(3))) == pytest.approx(3**-0.5, rel=1e-6)


def test_layer_contributions_by_hand():
    embed = torch.tensor([[1.0, 9.0]])
    attn_out = torch.tensor([[[2.0, 5.0]], [[-1.0, 5.0]]])
    mlp_out = torch.tensor([[[0.5, 5.0]], [[4.0, 5.0]]])
    parts = layer_contributions(embed, attn_out, mlp_out, torch.tensor([2.0, 0.0]))
    assert parts.embed.tolist() == [1.0]
    assert parts.attention.tolist() == [[2.0], [-1.0]]
    assert parts.mlp.tolist() == [[0.5], [4.0]]
    assert parts.resid_post.tolist() == [[3.5], [6.5]]


def test_layer_contributions_add_up_to_the_residual():
    embed, attn_out, mlp_out = random(6, 8), random(4, 6, 8, seed=1), 300 * random(4, 6, 8, seed=2)
    direction = random(8, seed=3)
    parts = layer_contributions(embed, attn_out, mlp_out, direction)
    resid_post = embed + (attn_out + mlp_out).cumsum(0)
    torch.testing.assert_close(
        parts.resid_post, projection(resid_post, direction), rtol=1e-5, atol=1e-4
    )
    by_hand = projection(attn_out[2, 5], direction)
    torch.testing.assert_close(parts.attention[2, 5], by_hand)


def test_neuron_contributions_by_hand():
    post, w_out = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    got = neuron_contributions(post, w_out, torch.tensor([0.0, 2.0]))
    assert got.tolist() == [[4.0, -10.0]]


def test_neurons_and_bias_add_up_to_what_the_mlp_writes():
    post, w_out, b_out = random(5, 16), random(16, 8, seed=1), random(8, seed=2)
    direction = random(8, seed=3)
    parts = neuron_contributions(post, w_out, direction)
    total = parts.sum(-1) + projection(b_out, direction)
    torch.testing.assert_close(
        total, projection(post @ w_out + b_out, direction), rtol=1e-5, atol=1e-5
    )
    one = projection(post[3, 7] * w_out[7], direction)
    torch.testing.assert_close(parts[3, 7], one, rtol=1e-5, atol=1e-6)
