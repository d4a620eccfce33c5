"""Parameter groups and the learning rate over time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from fivenines.models.optimizers import layer_depth, learning_rate_factor, make_optimizer, parameter_groups
from fivenines.models.training_config import OptimizerName

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("bert.embeddings.word_embeddings.weight", 0),
        ("bert.encoder.layer.0.attention.self.query.weight", 1),
        ("deberta.encoder.layer.11.output.dense.bias", 12),
        ("deberta.encoder.rel_embeddings.weight", 0),
        ("model.layers.3.attn.Wqkv.weight", 4),
        ("model.embeddings.tok_embeddings.weight", 0),
        ("model.embed_tokens.weight", 0),
        ("transformer.h.7.mlp.c_fc.weight", 8),
        ("transformer.wte.weight", 0),
        ("transformer.ln_f.weight", 13),
        ("bert.pooler.dense.weight", 13),
        ("classifier.weight", 13),
    ],
)
def test_depth_of_a_parameter(name: str, depth: int) -> None:
    assert layer_depth(name, 12) == depth


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_groups_cover_every_parameter_once(kind: str) -> None:
    model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(kind, vocab_size=20, pad_token_id=0, **SMALL)
    )
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    groups = parameter_groups(
        model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5, head_learning_rate=7.0
    )
    inside = [p for group in groups for p in group["params"]]
    assert {id(p) for p in inside} == {id(p) for p in model.parameters()} - {id(frozen)}
    assert len(inside) == len({id(p) for p in inside})
    assert {group["lr"] for group in groups} <= {7.0, 1.0, 0.5, 0.25, 0.125}
    assert {0.5, 0.25, 7.0} <= {group["lr"] for group in groups}
    for group in groups:
        assert group["initial_lr"] == group["lr"]
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


@given(st.floats(0, 1), st.floats(0, 0.9), st.sampled_from(["linear", "cosine", "none"]))
def test_rate_stays_within_bounds(progress: float, warmup: float, decay: str) -> None:
    assert 0 <= learning_rate_factor(progress, warmup, decay) <= 1  # type: ignore[arg-type]


def test_rate_over_time() -> None:
    assert learning_rate_factor(0.05, 0.1, "linear") == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1, "linear") == pytest.approx(1)
    assert learning_rate_factor(0.55, 0.1, "linear") == pytest.approx(0.5)
    assert learning_rate_factor(0.55, 0.1, "cosine") == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 0.1, "cosine") == 0
    assert learning_rate_factor(1.0, 0.1, "none") == 1


def _llama() -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model("llama", vocab_size=20, num_key_value_heads=2, **SMALL)
    )
    return model


def _steps(model: PreTrainedModel, optimizer: torch.optim.Optimizer, first: int, n: int) -> None:
    for step in range(first, first + n):
        tokens = torch.randint(20, (4, 12), generator=torch.Generator().manual_seed(step))
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _groups(model: PreTrainedModel) -> list[dict[str, Any]]:
    return parameter_groups(model, learning_rate=0.01, weight_decay=0.0)


def test_muon_turns_the_matrices_of_the_layers_and_nothing_else() -> None:
    model = _llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    _steps(model, make_optimizer(_groups(model), kind="muon"), 0, 1)
    for name, p in model.named_parameters():
        moved = p.detach() - before[name]
        assert moved.abs().max() > 0, name
        if (
            p.ndim == 2 and ".layers." in name
        ):  # 0.2 sqrt(8) times a matrix whose singular values are all near 1
            sizes = torch.linalg.svdvals(moved) / (0.01 * 0.2 * 8**0.5)
            assert sizes.min() > 0.2, (
                name
            )  # five iterations of Newton and Schulz reach 0.7 from most starts, not all
            assert sizes.max() < 1.3, name
        else:  # AdamW's first step moves each number that has a gradient by the learning rate
            assert moved.abs().max() == pytest.approx(0.01, rel=1e-3), name


def test_muon_takes_no_group_that_it_would_not_step() -> None:
    optimizer = make_optimizer(_groups(_llama()), kind="muon")
    with pytest.raises(NotImplementedError, match="give them when it is made"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2, 2))]})
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_optimizer_goes_on_from_its_state(kind: OptimizerName) -> None:
    whole, parted, rest = _llama(), _llama(), _llama()
    _steps(whole, make_optimizer(_groups(whole), kind=kind), 0, 6)
    first = make_optimizer(_groups(parted), kind=kind)
    _steps(parted, first, 0, 3)
    rest.load_state_dict(parted.state_dict())
    second = make_optimizer(_groups(rest), kind=kind)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _steps(rest, second, 3, 3)
    for p, q in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(p, q)
    for group in second.param_groups:  # a rate that the loop sets is the one that counts
        group["lr"] = 0.0
    _steps(rest, second, 6, 1)
    for p, q in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(p, q)
