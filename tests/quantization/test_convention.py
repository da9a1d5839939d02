"""Our INT8 arithmetic against compressed-tensors itself, bit by bit (written against 0.20.0)."""

import json
import os
import pathlib
import subprocess

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig
from compressed_tensors.quantization.lifecycle.forward import fake_quantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / os.environ.get("DST_BUILD_DIR", "build/release") / "tests" / "convention_tool"
TOKENS = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
CHANNELS = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")


def hard_rows(columns, seed):
    """Rows of every kind: ordinary sizes, zeros, huge, tiny, denormal, exact ties, one outlier."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(columns, generator=generator) * size
            for size in (1.0, 1e-3, 0.0, -0.0, 5e37, 1e-30, 1e-38, 1e-42, 1e-45)]
    ties = torch.arange(columns, dtype=torch.float32) % 256 - 127.5
    rows += [ties, ties * 2.0**-40, torch.randn(columns, generator=generator)]
    rows[-1][-1] = -1e4
    rows += list(torch.randn(64, columns, generator=generator) * 0.02)
    return torch.stack(rows).contiguous()


def same_bits(found, wanted):
    integers = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.int8: torch.int8}[found.dtype]
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    wrong = (found.view(integers) != wanted.contiguous().view(integers)).nonzero()
    assert len(wrong) == 0, f"{len(wrong)} values differ, first at {wrong[0].tolist()}"


@pytest.fixture(params=[1, 16, 255, 576, 1537])
def ours_and_input(request, tmp_path):
    x = hard_rows(request.param, seed=request.param)
    save_file({"x": x}, tmp_path / "input.safetensors")
    subprocess.run([TOOL, tmp_path / "input.safetensors", tmp_path / "output.safetensors"], check=True, timeout=60)
    return load_file(tmp_path / "output.safetensors"), x


def levels(ours):
    names = sorted({name.split(".")[0] for name in ours})
    assert "portable" in names
    return names


def test_dynamic_tokens(ours_and_input):
    ours, x = ours_and_input
    # Activations reach compressed-tensors as [batch, tokens, features].
    scales, zero_points = compute_dynamic_scales_and_zp(x[None], TOKENS, torch.nn.Module())
    wanted = fake_quantize(x[None], scales, zero_points, TOKENS)[0]
    for level in levels(ours):
        same_bits(ours[f"{level}.scales"], scales[0])
        same_bits(ours[f"{level}.fake_f32"], wanted)
        same_bits(ours[f"{level}.fake_bf16"], wanted.bfloat16())


def test_channel_weights(ours_and_input):
    ours, x = ours_and_input
    scales, zero_points = calculate_qparams(x.amin(1, keepdim=True), x.amax(1, keepdim=True), CHANNELS)
    values = quantize(x, scales, zero_points, CHANNELS, dtype=torch.int8).to(torch.int8)
    wanted = fake_quantize(x, scales, zero_points, CHANNELS)
    for level in levels(ours):
        same_bits(ours[f"{level}.scales"], scales)
        same_bits(ours[f"{level}.q_s8"], values)
        same_bits(ours[f"{level}.fake_f32"], wanted)
        # What a loader computes from the stored integers is what training saw.
        assert torch.equal(ours[f"{level}.q_s8"].float() * ours[f"{level}.scales"], wanted)


def test_config_is_what_compressed_tensors_writes():
    text = subprocess.run([TOOL, "--config", "lm_head"], check=True, timeout=60, capture_output=True, text=True).stdout
    ours = json.loads(text)
    read = QuantizationConfig.model_validate(ours)
    (group,) = read.config_groups.values()
    assert group.weights == CHANNELS and group.input_activations == TOKENS
    assert read.ignore == ["lm_head"]
    assert read.quantization_status == "compressed"
    written = json.loads(read.model_dump_json())
    assert {key: ours[key] for key in written if key in ours} == {key: written[key] for key in written if key in ours}
    assert set(written) - set(ours) == set()


def test_tool_refuses_a_cut_file(tmp_path):
    save_file({"x": torch.ones(4, 4)}, tmp_path / "whole.safetensors")
    cut = (tmp_path / "whole.safetensors").read_bytes()[:-1]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    result = subprocess.run([TOOL, tmp_path / "cut.safetensors", tmp_path / "out"], capture_output=True, timeout=60)
    assert result.returncode == 1 and b"cut.safetensors" in result.stderr
    assert not (tmp_path / "out").exists()
