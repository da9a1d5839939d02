"""Every family against transformers: logits, loss, gradients, router choices, the cache."""

import re

import pytest
import torch
from tests.parity.conftest import FAMILIES, ours, relative_difference, token_ids

TOLERANCE = 1e-4


def theirs(model, ids):
    with torch.no_grad():
        return model(ids, use_cache=False).logits.float()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_gradients(family, name, tmp_path):
    model, folder = family(name)
    ids = token_ids(2, 96)
    model.zero_grad()
    output = model(ids, labels=ids, use_cache=False)
    output.loss.backward()
    result = ours(folder, ids, tmp_path, "gradients")
    assert relative_difference(result["logits"], output.logits.detach()) <= TOLERANCE
    assert abs(result["loss"].item() - output.loss.item()) <= TOLERANCE * abs(output.loss.item())
    checked = 0
    for parameter, gradient in reference_gradients(model):
        assert relative_difference(result[f"grad.{parameter}"], gradient) <= TOLERANCE, parameter
        checked += 1
    assert checked == sum(key.startswith("grad.") for key in result)


def reference_gradients(model):
    """transformers' gradients under the checkpoint's names: its experts are one tensor for all."""
    for name, parameter in model.named_parameters():
        if name.endswith("experts.gate_up_proj"):
            for i, both in enumerate(parameter.grad):
                gate, up = both.chunk(2)
                yield name.replace("gate_up_proj", f"{i}.gate_proj.weight"), gate
                yield name.replace("gate_up_proj", f"{i}.up_proj.weight"), up
        elif name.endswith("experts.down_proj"):
            for i, down in enumerate(parameter.grad):
                yield name.replace("down_proj", f"{i}.down_proj.weight"), down
        else:
            yield name, parameter.grad


@pytest.mark.parametrize("name", ["llama", "llama3-rope", "qwen2-window", "qwen2-yarn", "qwen3", "deepseek-v2-lite",
                                  "deepseek-v3"])  # fmt: skip
def test_4096_positions_far_beyond_the_original_context(family, name, tmp_path):
    model, folder = family(name)
    ids = token_ids(1, 4096)
    assert relative_difference(ours(folder, ids, tmp_path)["logits"], theirs(model, ids)) <= TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_kernels_agree(family, name, tmp_path):
    model, folder = family(name)
    ids = token_ids(2, 96)
    assert relative_difference(ours(folder, ids, tmp_path, "fast")["logits"], theirs(model, ids)) <= TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("numerics", ["reference", "fast"])
def test_bfloat16_is_as_near_as_transformers_own_kernels(family, name, numerics, tmp_path):
    """The yardstick is the distance between transformers' two attentions, eager and SDPA."""
    model, folder = family(name)
    ids = token_ids(4, 96)
    narrow = type(model).from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    eager = theirs(narrow, ids)
    narrow.set_attn_implementation("sdpa")
    allowed = 2 * (theirs(narrow, ids) - eager).norm()
    result = ours(folder, ids, tmp_path, "bf16", *([numerics] if numerics == "fast" else []))["logits"]
    assert (result - eager).norm() <= allowed


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("deepseek")])
def test_router_chooses_the_same_experts(family, name, tmp_path):
    model, folder = family(name)
    ids = token_ids(2, 200)
    chosen = []
    hooks = [module.register_forward_hook(lambda _, __, output: chosen.append(output[2]))
             for key, module in model.named_modules() if re.fullmatch(r"model\.layers\.\d+\.mlp\.gate", key)]  # fmt: skip
    theirs(model, ids)
    for hook in hooks:
        hook.remove()
    result = ours(folder, ids, tmp_path)
    assert len(chosen) == sum(key.startswith("loads.") for key in result) > 0
    for i, experts in enumerate(chosen):
        assert torch.equal(result[f"loads.{i}"], torch.bincount(experts.flatten(), minlength=8)), f"layer {i}"


@pytest.mark.parametrize("name", FAMILIES)
def test_generation_by_the_cache_equals_transformers(family, name, tmp_path):
    """Greedy, longer than the window, past the original context of the scaled rotations."""
    model, folder = family(name)
    ids = token_ids(1, 40)
    with torch.no_grad():
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False,
                                  eos_token_id=None, use_cache=True)  # fmt: skip
    for flags in ([], ["fast"]):
        generated = ours(folder, ids, tmp_path, "generate=48", *flags)["generated"]
        assert torch.equal(generated, expected[:, 40:]), flags
