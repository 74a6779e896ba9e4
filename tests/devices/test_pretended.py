"""The devices that other tests pretend to have do refuse what real ones refuse."""

import pytest
import torch

from tests.devices.pretended import pretended


@pytest.fixture(autouse=True)
def there():
    with pretended():
        yield


def test_numbers_are_those_of_the_processor():
    plain = torch.arange(12.0).view(3, 4)
    moved = plain.to("cuda")
    assert str(moved.device) == "cuda:0"
    torch.testing.assert_close((moved @ moved.T).softmax(-1).cpu(), (plain @ plain.T).softmax(-1))
    assert moved[1, 2].item() == 6.0
    assert moved.tolist() == plain.tolist()
    assert str(moved.cpu().device) == "cpu"


def test_writing_to_a_part_writes_to_the_whole():
    moved = torch.zeros(3, 4, device="cuda")
    moved[1:][0, [1, 2]] = 5.0
    moved[0].add_(1.0)
    assert moved.cpu()[1].tolist() == [0, 5, 5, 0]
    assert moved.cpu()[0].tolist() == [1, 1, 1, 1]


MIXED = {
    "processor": lambda one: one + torch.ones(4),
    "another": lambda one: one + torch.ones(4, device="cuda:1"),
    "product": lambda one: one @ torch.ones(4),
    "stack": lambda one: torch.stack([one, torch.ones(4)]),
    "index": lambda one: torch.ones(4)[one.long()],
    "written": lambda one: one.index_put_((torch.tensor([0, 1]),), torch.ones(2)),
    "a number of the other": lambda one: torch.ones(4) + one.sum(),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_devices_do_not_mix(mix):
    with pytest.raises(RuntimeError, match=r"same device|indices should be"):
        mix(torch.ones(4, device="cuda:0"))


def test_what_may_be_on_the_processor_beside():
    one = torch.ones(4, device="cuda:0")
    one[torch.tensor([0, 1])] = 2.0
    one[2:] = torch.zeros(2)
    total = one * torch.tensor(3.0) + 1
    assert total.tolist() == [7, 7, 1, 1]


def test_numpy_and_float64_are_refused():
    with pytest.raises(TypeError, match="numpy"):
        torch.ones(4, device="cuda:0").numpy()
    assert torch.ones(4, device="cuda:0").double().dtype == torch.float64
    with pytest.raises(TypeError, match="float64"):
        torch.ones(4, device="mps").double()


def test_modules_move_and_run():
    module = torch.nn.Linear(4, 2)
    expected = module(torch.ones(4))
    module.to("cuda:1")
    assert {str(one.device) for one in module.parameters()} == {"cuda:1"}
    torch.testing.assert_close(module(torch.ones(4, device="cuda:1")).cpu(), expected)
