"""Tiny random models of every family, made with transformers, and our program's answers to them."""

import json
import math

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.conftest import BUILD, run

VOCABULARY = 96


def write_tokenizer(folder):
    """A byte-level BPE of single letters: the loader wants a tokenizer beside the weights."""
    letters = [chr(code) for code in range(33, 33 + VOCABULARY - 2)]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {letter: i for i, letter in enumerate(letters)}, "merges": []},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def randomize(model, seed=0):
    """Weights that make every part matter: uneven attention, norms that are not one, biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("e_score_correction_bias"):
            tensor.data.normal_(-0.1, 0.3, generator=generator)  # some below zero
        elif name.endswith(("inv_freq",)):
            continue
        elif "norm" in name:
            tensor.data.normal_(1, 0.2, generator=generator)
        elif tensor.dim() == 1:
            tensor.data.normal_(0, 0.3, generator=generator)
        elif "embed_tokens" in name:
            tensor.data.normal_(0, 1, generator=generator)
        else:
            tensor.data.normal_(0, 1.5 / math.sqrt(tensor.shape[-1]), generator=generator)


COMMON = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=8192, bos_token_id=1, eos_token_id=2)  # fmt: skip
LLAMA3_ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64, rope_theta=5e5)  # fmt: skip
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=1e4)
MLA = dict(num_key_value_heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12,
           moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2,
           first_k_dense_replace=1, num_hidden_layers=3)  # fmt: skip
DEEPSEEK_YARN = dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1,
                     rope_theta=1e4)  # fmt: skip

FAMILIES = {
    "llama": ("Llama", dict(num_key_value_heads=2, rms_norm_eps=1e-5)),
    "llama-tied-biased": ("Llama", dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, head_dim=16,
                                        tie_word_embeddings=True)),
    "llama3-rope": ("Llama", dict(num_key_value_heads=1, rope_parameters=LLAMA3_ROPE)),
    "llama-linear-rope": ("Llama", dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1e4))),
    "qwen2": ("Qwen2", dict(num_key_value_heads=2)),
    "qwen2-window": ("Qwen2", dict(num_key_value_heads=2, use_sliding_window=True, sliding_window=16,
                                   max_window_layers=1)),
    "qwen2-yarn": ("Qwen2", dict(num_key_value_heads=2, rope_parameters=YARN)),
    "qwen3": ("Qwen3", dict(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)),
    "qwen3-window": ("Qwen3", dict(num_key_value_heads=2, head_dim=16, attention_bias=True, use_sliding_window=True,
                                   sliding_window=8, max_window_layers=0)),
    "deepseek-v2-lite": ("DeepseekV2", dict(MLA, q_lora_rank=None, topk_method="greedy",
                                            rope_parameters=dict(DEEPSEEK_YARN, mscale=0.707, mscale_all_dim=0.707))),
    "deepseek-v2": ("DeepseekV2", dict(MLA, q_lora_rank=12, topk_method="group_limited_greedy", n_group=4,
                                       topk_group=2, num_experts_per_tok=3, routed_scaling_factor=16.0,
                                       rope_parameters=dict(DEEPSEEK_YARN, mscale=1.0, mscale_all_dim=0.5))),
    "deepseek-v2-plain-rope": ("DeepseekV2", dict(MLA, q_lora_rank=12, attention_bias=True, mlp_bias=False,
                                                  topk_method="greedy")),
    "deepseek-v3": ("DeepseekV3", dict(MLA, q_lora_rank=12, n_group=4, topk_group=2, n_shared_experts=1,
                                       rope_parameters=dict(DEEPSEEK_YARN, mscale=1.0, mscale_all_dim=1.0),
                                       num_mtp_layers=0)),
    "deepseek-v3-half-split": ("DeepseekV3", dict(MLA, q_lora_rank=None, n_group=1, topk_group=1, norm_topk_prob=False,
                                                  rope_interleave=False, num_mtp_layers=0)),
}  # fmt: skip


def make(name):
    class_name, values = FAMILIES[name]
    config = getattr(transformers, f"{class_name}Config")(**{**COMMON, **values})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, f"{class_name}ForCausalLM")(config).eval()
    randomize(model)
    return model


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """family(NAME) -> (transformers' model, its folder), made once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            model = make(name)
            model.save_pretrained(folder)
            write_tokenizer(folder)
            made[name] = model, folder
        return made[name]

    return get


def token_ids(batch, length, seed=1):
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def ours(folder, ids, tmp_path, *flags):
    save_file({"input_ids": ids.contiguous()}, tmp_path / "ids.safetensors")
    run([BUILD / "tests" / "parity_tool", folder, tmp_path / "ids.safetensors", tmp_path / "out.safetensors", *flags])
    return load_file(tmp_path / "out.safetensors")


def relative_difference(a, b):
    """The largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()
