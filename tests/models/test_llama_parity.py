"""Our Llama against transformers', on the real SmolLM2 weights."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import transformers
from tests.conftest import BUILD, ROOT, run

LENGTH = 512


@pytest.fixture(scope="session")
def token_ids(exports):
    """Real text: the project's licence."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(exports / "bf16")
    return np.array(tokenizer.encode((ROOT / "LICENSE").read_text())[:LENGTH], dtype=np.int64)


def our_logits(model, ids, tmp_path, *flags):
    ids.tofile(tmp_path / "ids.bin")
    run([BUILD / "tests" / "logits_tool", model, tmp_path / "ids.bin", tmp_path / "logits.bin", *flags],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    return torch.from_numpy(np.fromfile(tmp_path / "logits.bin", dtype=np.float32)).view(LENGTH, -1)


def their_logits(model, ids):
    with torch.inference_mode():
        return model(torch.from_numpy(ids).unsqueeze(0), use_cache=False).logits[0].float()


def load(folder, **keywords):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **keywords).eval()


def test_gguf_logits_equal_transformers(smollm2, token_ids, tmp_path):
    # transformers reads, dequantizes and permutes the GGUF by its own code.
    theirs = their_logits(load(str(smollm2.parent), gguf_file=smollm2.name), token_ids)
    reference = our_logits(smollm2, token_ids, tmp_path, "reference")
    assert (reference - theirs).abs().max() <= 1e-4
    fast = our_logits(smollm2, token_ids, tmp_path)
    assert (fast - theirs).norm() / theirs.norm() <= 1e-2
    assert (fast.argmax(-1) == theirs.argmax(-1)).float().mean() >= 0.995


@pytest.fixture(scope="session")
def exports(program, smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for kind in ("bf16", "w8a8"):
        run([program, "export", smollm2, "--format", kind, "--output", folder / kind])
    return folder


def test_exported_bf16_folder_equals_transformers(exports, token_ids, tmp_path):
    theirs = their_logits(load(exports / "bf16"), token_ids)
    assert (our_logits(exports / "bf16", token_ids, tmp_path, "reference") - theirs).abs().max() <= 1e-4


def test_exported_w8a8_folder_equals_transformers(exports, token_ids, tmp_path):
    theirs = their_logits(load(exports / "w8a8"), token_ids)
    reference = our_logits(exports / "w8a8", token_ids, tmp_path, "reference")
    assert (reference - theirs).abs().max() <= 1e-4
    # A sum in another order tips a rounding now and then, and every tipped rounding tips more in the next layer: after
    # thirty layers integer and fake-quantized logits differ by about what quantization itself costs. So that cost is what
    # is compared: integers must add nothing to it.
    exact = their_logits(load(exports / "bf16"), token_ids)
    integer = our_logits(exports / "w8a8", token_ids, tmp_path)
    assert (integer - exact).norm() <= 1.1 * (theirs - exact).norm()


def test_compression_is_real(exports):
    # INT8 weights are there: half the bytes of bf16 but for the embedding.
    sizes = {kind: (exports / kind / "model.safetensors").stat().st_size for kind in ("bf16", "w8a8")}
    assert sizes["w8a8"] < 0.65 * sizes["bf16"]
    config = json.loads((exports / "w8a8" / "config.json").read_text())
    assert config["quantization_config"]["quantization_status"] == "compressed"


def test_a_missing_shard_of_weights_is_refused(exports, program, tmp_path):
    shutil.copytree(exports / "w8a8", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = run([program, "generate", tmp_path / "cut", "--prompt", "x"], check=False)
    assert result.returncode == 1
    assert "model.safetensors" in result.stderr and len(result.stderr.strip().splitlines()) == 1
