"""Folders with DeepSeek's FP8 blocks against the same arithmetic in PyTorch, bit by bit."""

import json
import os
import pathlib
import subprocess

import huggingface_hub as hub
import pytest
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / os.environ.get("DST_BUILD_DIR", "build/release") / "tests" / "fp8_tool"
SHARD = 1 << 20
SCALE_SUFFIX = "_scale_inv"
FP8_CONFIG = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}


def run_tool(*arguments):
    result = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def spread(scales, shape):
    """One scale for each element."""
    return scales.float().repeat_interleave(128, 0)[: shape[0]].repeat_interleave(128, 1)[:, : shape[1]]


def decoded(values, scales):
    """DeepSeek's fp8_cast_bf16.py: a product in float32, rounded to bf16."""
    return (values.float() * spread(scales, values.shape)).to(torch.bfloat16)


def block_scales(weight, ue8m0):
    """The largest magnitude of the zero-padded block over 448, not below 1e-4 / 448."""
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float().abs(), (0, -columns % 128, 0, -rows % 128))
    largest = padded.view(-(-rows // 128), 128, -(-columns // 128), 128).amax((1, 3)).clamp(1e-4)
    scales = largest / 448
    return torch.exp2(torch.ceil(torch.log2(scales))) if ue8m0 else scales


def weights():
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(shape, generator=generator) * 0.05 * 2.0 ** torch.randint(-6, 3, (shape[0], 1), generator=generator)

    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": random(100, 300).bfloat16(),
        layer + "self_attn.kv_a_proj_with_mqa.weight": random(576, 300).bfloat16(),
        layer + "self_attn.o_proj.weight": random(300, 2048).bfloat16(),
        layer + "mlp.experts.0.down_proj.weight": random(130, 129),
        layer + "mlp.gate.weight": random(8, 300).bfloat16(),
        layer + "mlp.gate.e_score_correction_bias": random(8, 1).flatten(),
        layer + "input_layernorm.weight": random(300, 1).flatten().bfloat16(),
        "model.layers.1.eh_proj.weight": random(300, 600).bfloat16(),
    }


def write_folder(folder, tensors, config, max_shard_bytes=SHARD):
    folder.mkdir()
    hub.save_torch_state_dict(tensors, folder, max_shard_size=max_shard_bytes)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")


def read_folder(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.contiguous().view(torch.uint8).equal(b.contiguous().view(torch.uint8))


@pytest.mark.parametrize("scale_format", ["float32", "ue8m0"])
def test_a_bf16_folder_becomes_fp8_as_in_pytorch(tmp_path, scale_format):
    tensors = weights()
    write_folder(tmp_path / "in", tensors, {"model_type": "deepseek_v3", "torch_dtype": "bfloat16"})
    run_tool("to_fp8", tmp_path / "in", tmp_path / "out", SHARD, scale_format)
    found = read_folder(tmp_path / "out")
    quantized = {name for name in tensors if "_proj" in name and "eh_proj" not in name}
    assert set(found) == set(tensors) | {name + SCALE_SUFFIX for name in quantized}
    for name, weight in tensors.items():
        if name not in quantized:
            assert same_bits(found[name], weight), name
            continue
        scales = block_scales(weight, scale_format == "ue8m0")
        assert same_bits(found[name + SCALE_SUFFIX], scales), name
        values = (weight.float() / spread(scales, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
        assert same_bits(found[name], values), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    extra = {"scale_fmt": "ue8m0"} if scale_format == "ue8m0" else {}
    assert config == {"model_type": "deepseek_v3", "torch_dtype": "bfloat16", "quantization_config": FP8_CONFIG | extra}
    assert (tmp_path / "out" / "tokenizer.json").exists()


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float8_e8m0fnu])
def test_an_fp8_folder_becomes_bf16_as_in_deepseeks_converter(tmp_path, scale_dtype):
    tensors = {}
    for i, (rows, columns) in enumerate([(576, 300), (128, 128), (1, 1), (300, 2048)]):
        every_code = torch.arange(rows * columns, dtype=torch.int64) * 37 % 254
        every_code += every_code >= 127  # neither NaN
        tensors[f"{i}_proj.weight"] = every_code.to(torch.uint8).view(torch.float8_e4m3fn).view(rows, columns)
        scales = torch.rand(-(-rows // 128), -(-columns // 128)) * 10.0 ** torch.randint(-6, 3, (1,))
        tensors[f"{i}_proj.weight" + SCALE_SUFFIX] = scales.to(scale_dtype)
    # Small shards, so that a weight and its scales lie in different ones.
    write_folder(tmp_path / "in", tensors, {"quantization_config": FP8_CONFIG}, max_shard_bytes=100_000)
    run_tool("to_bf16", tmp_path / "in", tmp_path / "out", SHARD)
    found = read_folder(tmp_path / "out")
    assert len(found) == 4
    for name, weight in found.items():
        assert same_bits(weight, decoded(tensors[name], tensors[name + SCALE_SUFFIX])), name
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {}


def test_the_way_there_and_back_keeps_less_than_two_shards_in_memory(tmp_path):
    shard = 16 << 20
    tensors = {f"{i:02}_proj.weight": torch.randn(1024, 1024).bfloat16() for i in range(32)}
    write_folder(tmp_path / "in", tensors, {}, shard)
    assert len(list((tmp_path / "in").glob("*.safetensors"))) == 4
    assert run_tool("to_fp8", tmp_path / "in", tmp_path / "fp8", shard, "float32") < 2 * shard
    assert run_tool("to_bf16", tmp_path / "fp8", tmp_path / "back", shard) < 2 * shard
