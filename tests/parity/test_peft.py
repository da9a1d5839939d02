"""Adapters to and from PEFT: equal logits and gradients on both sides.

transformers 5 holds the routed experts of a layer as one tensor, and for DeepSeek's mixtures PEFT turns every target
named gate_proj, up_proj or down_proj, dense and shared ones too, into target_parameters: those are refused by name. What
both sides share there are the projections of the attention.
"""

import copy
import json

import peft
import pytest
import torch
from tests.parity.conftest import ours, relative_difference, token_ids

TOLERANCE = 1e-4
TARGETS = {
    "qwen2": "all-linear",
    "deepseek-v2": r".*\.(q_a_proj|q_b_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)",
}
KINDS = {
    "lora": {},
    "rslora": dict(use_rslora=True),
    "dora": dict(use_dora=True),
    "patterns": dict(rank_pattern={"layers.1.self_attn.o_proj": 6}, alpha_pattern={"o_proj": 3}),
}


def adapted(model, family, **options):
    """A copy of the model with an adapter that changes it."""
    config = peft.LoraConfig(r=4, lora_alpha=7, target_modules=TARGETS[family], task_type="CAUSAL_LM", **options)
    made = peft.get_peft_model(copy.deepcopy(model), config)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in made.named_parameters():
        if "magnitude" in name:
            parameter.data.mul_(torch.rand(parameter.shape, generator=generator) + 0.5)
        elif "lora_" in name or "modules_to_save" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return made.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TARGETS)
def test_we_load_theirs_and_they_load_ours(family, name, kind, tmp_path):
    model, folder = family(name)
    made = adapted(model, name, **KINDS[kind])
    made.save_pretrained(tmp_path / "theirs")
    ids = token_ids(2, 48)
    output = made(input_ids=ids, labels=ids, use_cache=False)
    output.loss.backward()
    assert relative_difference(output.logits.detach(), logits_of(model, ids)) > 0.05  # it does change the model

    result = ours(folder, ids, tmp_path, f"adapter={tmp_path / 'theirs'}", f"save_adapter={tmp_path / 'ours'}",
                  "gradients")  # fmt: skip
    assert relative_difference(result["logits"], output.logits.detach()) <= TOLERANCE
    gradients = {key: p.grad for key, p in made.named_parameters() if p.requires_grad}
    for key, gradient in gradients.items():
        mine = result["grad." + key.removeprefix("base_model.model.")]
        assert relative_difference(mine, gradient) <= TOLERANCE, key
    assert len(gradients) == sum(key.startswith("grad.") for key in result) > 0

    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "ours").eval()
    assert relative_difference(logits_of(again, ids), output.logits.detach()) <= TOLERANCE


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("name", TARGETS)
def test_merged_weights_and_the_cache_give_the_same_function(family, name, kind, tmp_path):
    """Latent attention decodes with kv_b_proj's whole matrix: the adapter must be in it."""
    model, folder = family(name)
    made = adapted(model, name, **KINDS[kind])
    made.save_pretrained(tmp_path / "theirs")
    ids = token_ids(1, 24)
    merged = ours(folder, ids, tmp_path, f"adapter={tmp_path / 'theirs'}", "merge")
    assert relative_difference(merged["logits"], logits_of(made, ids)) <= TOLERANCE
    expected = made.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
                             eos_token_id=None)[:, 24:]  # fmt: skip
    for flags in ([], ["merge"]):
        result = ours(folder, ids, tmp_path, f"adapter={tmp_path / 'theirs'}", "generate=24", *flags)
        assert torch.equal(result["generated"], expected)


def test_modules_to_save(family, tmp_path):
    model, folder = family("qwen2")
    made = adapted(model, "qwen2", modules_to_save=["lm_head"])
    made.save_pretrained(tmp_path / "theirs")
    ids = token_ids(2, 24)
    result = ours(folder, ids, tmp_path, f"adapter={tmp_path / 'theirs'}", f"save_adapter={tmp_path / 'ours'}")
    assert relative_difference(result["logits"], logits_of(made, ids)) <= TOLERANCE
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "ours").eval()
    assert relative_difference(logits_of(again, ids), logits_of(made, ids)) <= TOLERANCE


def test_adapters_of_fused_experts_are_refused_by_name(family, tmp_path):
    model, folder = family("deepseek-v2")
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())["target_parameters"]
    with pytest.raises(AssertionError, match="target_parameters"):
        ours(folder, token_ids(1, 8), tmp_path, f"adapter={tmp_path / 'theirs'}")
