"""Muon: orthogonal steps for matrices, Adam for the rest, and descent."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from humannorm.training.muon import ADAM_RMS, Muon, hidden_matrices, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_singular_values_come_near_one_and_directions_stay(shape, generator):
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    spread = torch.linalg.svdvals(result)
    assert float(spread.min()) > 0.6 and float(spread.max()) < 1.3
    core = left.T @ result @ right.T  # diagonal, if the singular directions are kept
    torch.testing.assert_close(core, torch.diag(core.diagonal()), atol=1e-10, rtol=0)


def test_what_counts_as_a_hidden_matrix():
    module = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(1, 2, 3),
            "conv": nn.Conv2d(2, 2, 3),
            "words": nn.Embedding(5, 3),
            "norm": nn.LayerNorm(3),
        }
    )
    module["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    matrices, others = hidden_matrices(module, outer=("conv_in",))
    assert [id(value) for value in matrices] == [id(module["conv"].weight)]
    assert len(others) == 2 + 1 + 1 + 2  # conv_in, the bias of conv, embedding, norm


def test_first_step_of_a_matrix_and_of_a_vector(generator):
    """A matrix moves by lr * 0.2 * sqrt(max side) along an orthogonal matrix, a vector by lr as Adam's first step."""
    matrix = nn.Parameter(torch.zeros(4, 16))
    vector = nn.Parameter(torch.zeros(5))
    optimizer = Muon([matrix], [vector], lr=0.1, weight_decay=0.0)
    matrix.grad = torch.randn(4, 16, generator=generator)
    vector.grad = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
    optimizer.step()
    torch.testing.assert_close(vector.detach(), -0.1 * vector.grad.sign(), atol=1e-6, rtol=0)
    spread = torch.linalg.svdvals(matrix.detach() / (0.1 * ADAM_RMS * 4.0))
    assert float(spread.min()) > 0.6 and float(spread.max()) < 1.3


def test_descends_to_the_solution_of_an_ill_conditioned_problem(generator):
    """W A = B with A's singular values spread over two decades along axes that are nobody's coordinates."""
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    inputs = turn @ (torch.randn(16, 64, generator=generator) * torch.logspace(0, -2, 16)[:, None])
    wanted = torch.randn(16, 16, generator=generator) @ inputs
    weight = nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], [], lr=0.1, weight_decay=0.0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        optimizer.zero_grad()
        (weight @ inputs - wanted).square().mean().backward()
        optimizer.step()
    assert float((weight.detach() @ inputs - wanted).square().mean()) < 0.02 * float(wanted.square().mean())


def test_state_goes_through_a_state_dict(generator):
    def build():
        weight, bias = nn.Parameter(torch.ones(3, 5)), nn.Parameter(torch.ones(3))
        return (weight, bias), Muon([weight], [bias], lr=0.01)

    def advance(parameters, optimizer, seeds):
        for seed in seeds:
            draw = torch.Generator().manual_seed(seed)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()

    parameters, optimizer = build()
    advance(parameters, optimizer, [1, 2])
    others, resumed = build()
    with torch.no_grad():
        for other, parameter in zip(others, parameters, strict=True):
            other.copy_(parameter)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(parameters, optimizer, [3])
    advance(others, resumed, [3])
    for other, parameter in zip(others, parameters, strict=True):
        assert torch.equal(other, parameter)
