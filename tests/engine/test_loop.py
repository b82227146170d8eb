"""One epoch of steps, on a network of a few weights: what is minimised, what moves, what is
returned and refused.
"""

import copy
import math

import pytest
import torch
from places import python
from torch import nn

from engine.loop import Adam, Bag, train_epoch
from formats.files import InputError


def bag(i, x, y=1.0):
    return Bag(i, f"video {i}", torch.tensor(x), None, torch.tensor([y]))


def one_weight(value=2.0):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def mean_square(network):
    return lambda bags: {"square": sum((network(b.rgb) ** 2).mean() for b in bags) / len(bags)}


def test_by_hand():
    """w = 2, x = 3: loss (2 * 3)^2 = 36. Adam's first step is the learning rate against the
    gradient's sign.
    """
    network = one_weight()
    losses = train_epoch(
        [([bag(0, [[3.0]])], 1)], mean_square(network), [Adam(network.parameters(), 0.5)]
    )
    assert losses == {"square": 36.0}
    assert network.weight.item() == pytest.approx(1.5)


def test_a_step_for_each_batch_and_the_mean_over_the_steps():
    """Against PyTorch's plain Adam, a step at a time; the sum of the losses is minimised."""
    batches = [([bag(0, [[1.0], [2.0]]), bag(1, [[-1.0]])], 2), ([bag(2, [[0.5]])], 1)]
    network, plain = one_weight(), one_weight()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1, foreach=False)
    expected = {"square": [], "level": []}
    for bags, _ in batches:
        terms = mean_square(plain)(bags) | {"level": plain.weight.abs().sum()}
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        for name, value in terms.items():
            expected[name].append(value.item())

    def loss(bags):
        return mean_square(network)(bags) | {"level": network.weight.abs().sum()}

    found = train_epoch(batches, loss, [Adam(network.parameters(), 0.1)])
    assert found == {name: pytest.approx(sum(values) / 2) for name, values in expected.items()}
    # w = 2: clips 2, 4 and -2
    assert expected["square"][0] == pytest.approx((4 + 16) / 2 / 2 + 4 / 2)
    torch.testing.assert_close(network.weight, plain.weight)


@pytest.mark.parametrize("other_order", [False, True])
def test_adam_is_pytorchs_to_the_bit_also_from_its_saved_state(other_order):
    """A weight that lies in another memory order, and one that is first moved in the third step.
    other_order: the weight of the process that resumes lies in another order than the one before.
    """
    torch.manual_seed(0)
    first = [torch.randn(3, 5).T.requires_grad_(), torch.randn(4, requires_grad=True)]
    both = [[w.detach().clone().requires_grad_() for w in first] for _ in range(2)]
    ours = Adam(both[0], 0.1, 0.01)
    theirs = torch.optim.Adam(both[1], 0.1, weight_decay=0.01, fused=True)
    for k in range(6):
        for weights, optimizer in zip(both, (ours, theirs)):
            for w in weights[: 1 if k < 2 else 2]:
                w.grad = (0.5 - k) * w.detach()
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(*both))
        if k in (0, 3):
            state = copy.deepcopy(ours.state_dict())
            if other_order:
                both[0][0] = both[0][0].detach().T.contiguous().T.requires_grad_()
            ours = Adam(both[0], 0.1, 0.01)
            ours.load_state_dict(state)


@pytest.mark.slow
def test_adam_does_not_import_pytorchs_compiler():
    code = (
        "import sys, torch; from engine.loop import Adam; w = torch.ones(2, requires_grad=True); "
        "w.sum().backward(); Adam([w], 1).step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert python("-c", code).returncode == 0


def test_every_optimizer_steps_and_moves_its_parameters_only():
    first, second, third = one_weight(), one_weight(), one_weight()

    def loss(bags):
        return {"sum": (first(bags[0].rgb) + second(bags[0].rgb) + third(bags[0].rgb)).sum()}

    train_epoch(
        [([bag(0, [[1.0]])], 1)],
        loss,
        [Adam(first.parameters(), 0.5), Adam(second.parameters(), 0.25)],
    )
    assert [network.weight.item() for network in (first, second, third)] == pytest.approx(
        [1.5, 1.75, 2.0]
    )


def test_gradients_do_not_pile_up():
    """A parameter that a step does not touch is not moved by an earlier step's gradient."""
    network, other = one_weight(), one_weight()
    batches = [([bag(0, [[1.0]])], 1), ([bag(1, [[1.0]])], 1)]

    def loss(bags):
        return {"sum": (network if bags[0].index == 0 else other)(bags[0].rgb).sum()}

    train_epoch(
        batches, loss, [torch.optim.SGD([*network.parameters(), *other.parameters()], lr=0.5)]
    )
    assert (network.weight.item(), other.weight.item()) == (1.5, 1.5)


@pytest.mark.parametrize("value, found", [(math.nan, "nan"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_names_the_epoch_and_the_first_videos(value, found):
    """Its gradient ruins the weights, and with them the losses of the videos that follow."""
    network = one_weight()
    batches = [
        ([bag(2 * k + i, [[value if (k, i) == (1, 1) else 1.0]]) for i in (0, 1)], 2)
        for k in (0, 1, 2)
    ]
    adam = [Adam(network.parameters(), 1e-3)]
    with pytest.raises(InputError) as error:
        train_epoch(batches, mean_square(network), adam, where="first, epoch 7")
    assert error.value.where == "training first, epoch 7"
    assert error.value.found == f"the loss {found} on video 2, video 3"


def test_an_epoch_without_steps_has_no_losses():
    network = one_weight()
    assert train_epoch([], mean_square(network), [Adam(network.parameters(), 1e-3)]) == {}
