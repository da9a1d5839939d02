#!/usr/bin/env python3
"""Writes seeds/: the public proofs-of-concept against readers of model files, rebuilt, and a few right files.

Names that begin with valid_ must open; all others must be refused (tests/formats/seeds_test.cc does both).
"""

import json
import struct
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds"
BIG = 2**32


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def one(dtype, shape, begin, end, num_data_bytes):
    return safetensors({"t": tensor(dtype, shape, begin, end)}, bytes(num_data_bytes))


def safetensors_seeds():
    two = {"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 1], 0, 8), "b": tensor("BF16", [], 8, 10)}
    return {
        "valid_two_tensors": safetensors(two, bytes(10)),
        "valid_empty_tensor": safetensors({"e": tensor("F32", [0, 4], 0, 0), "t": tensor("U8", [1], 0, 1)}, b"x"),
        "valid_padded_header": safetensors(b'{"t":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}     ', b"abc"),
        "valid_index": b'{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors"}}',
        # google-ai-edge/LiteRT issue 9255 (safetensors-cpp): a product that wraps to 0 skips all other checks.
        "shape_product_wraps_to_zero": one("F32", [BIG, BIG], 2**60, 2**61, 8),
        "element_size_wraps_to_zero": one("F64", [2**61], 0, 2**40, 8),
        # leejet/stable-diffusion.cpp issue 1876: the same with an empty range inside the file.
        "shape_product_wraps_with_empty_range": one("F32", [BIG, BIG], 0, 0, 0),
        "negative_dimension": one("F32", [-1, -4], 0, 16, 16),
        # ml-explore/mlx issue 3363 and antirez/ds4 pull request 543: shape larger than the range.
        "shape_larger_than_range": one("F32", [1000, 1000], 0, 4, 4),
        "fp8_shape_larger_than_range": one("F8_E4M3", [128, 128], 0, 128, 128),
        # ztxz16/fastllm issue 712: range larger than the shape; a header length that wraps.
        "range_larger_than_shape": one("F32", [32, 8], 0, 65536, 65536 // 64),
        "header_length_wraps": safetensors({}, length=2**64 - 5),
        "header_length_of_all_bits": safetensors({}, length=2**64 - 1),
        "header_length_over_the_cap": safetensors({}, length=100_000_001),
        "header_length_past_the_end": safetensors({}, length=3),
        # 0xShug0/audio.cpp pull request 138: negative and reversed offsets.
        "negative_offset": one("U8", [4], -4, 0, 4),
        "reversed_offsets": one("U8", [4], 8, 4, 8),
        "offset_past_the_end": one("U8", [4], 2**63 - 4, 2**63, 4),
        # kekzl/imp issue 1603: an unknown type skips the check of offsets.
        "unknown_dtype": one("F7", [1], 2**64 - 1, 2**64 - 1, 1),
        # ohdearquant/lattice issue 752: two tensors on the same bytes.
        "aliased_ranges": safetensors({"k": tensor("F32", [2], 0, 8), "v": tensor("F32", [2], 0, 8)}, bytes(8)),
        "hole": safetensors({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 5, 6)}, bytes(6)),
        "bytes_after_the_last_tensor": one("U8", [1], 0, 1, 9),
        # Accepted by safetensors 0.8.0-dev: an empty tensor in the middle of another one.
        "empty_tensor_inside_another": safetensors(
            {"a": tensor("U8", [8], 0, 8), "e": tensor("U8", [0], 4, 4)}, bytes(8)),
        "one_tensor_twice": safetensors(
            b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
            bytes(2)),
        "huge_float_dimension": safetensors(b'{"t":{"dtype":"U8","shape":[1e300],"data_offsets":[0,1]}}', b"x"),
        "deep_nesting": safetensors(b'{"t":' + b"[" * 4000 + b"]" * 4000 + b"}"),
    }


U8, I32, U32, F32, STRING, ARRAY, U64 = 0, 5, 4, 6, 8, 9, 10
TYPE_F32, TYPE_Q8_0, TYPE_Q4_1, TYPE_I64 = 0, 8, 3, 27


def text(value, length=None):
    return struct.pack("<Q", len(value) if length is None else length) + value


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, count, values=b""):
    return struct.pack("<IQ", kind, count) + values


def listed(name, dimensions, kind, offset, num_dimensions=None):
    count = len(dimensions) if num_dimensions is None else num_dimensions
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", count, *dimensions, kind, offset)


def gguf(entries=(), tensors=(), data=b"", num_tensors=None, num_entries=None):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors) if num_tensors is None else num_tensors,
                                 len(entries) if num_entries is None else num_entries)
    body = head + b"".join(entries) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + data if data else body


def gguf_seeds():
    huge = 2**63
    return {
        "valid_metadata_and_tensors": gguf(
            [entry(b"general.architecture", STRING, text(b"llama")), entry(b"llama.block_count", U32, struct.pack("<I", 2)),
             entry(b"tokenizer.ggml.tokens", ARRAY, array(STRING, 2, text(b"a") + text(b"b"))),
             entry(b"tokenizer.ggml.scores", ARRAY, array(F32, 2, bytes(8)))],
            [listed(b"q8", [32, 2], TYPE_Q8_0, 0), listed(b"q4", [32], TYPE_Q4_1, 96), listed(b"f", [3], TYPE_F32, 128)],
            bytes(68 + 28 + 20 + 12 + 12)),
        # ggml-org/llama.cpp pull request 26690: an array of a narrower type than its readers take it for.
        "valid_token_type_of_one_byte": gguf([entry(b"tokenizer.ggml.token_type", ARRAY, array(U8, 3, b"\1\3\4"))]),
        # ggml-org/llama.cpp pull requests 24263 and 26946: a zero dimension (a division by it), an empty key.
        "valid_zero_dimension": gguf([], [listed(b"t.weight", [4, 0], TYPE_F32, 0)]),
        "valid_empty_key": gguf([entry(b"", U8, b"\1")]),
        # ggml-org/llama.cpp pull request 25821: a layer count that its readers do not bound.
        "valid_huge_block_count": gguf([entry(b"llama.block_count", U32, struct.pack("<I", 2**32 - 1))]),
        # ggml-org/llama.cpp issue 25378: a number of dimensions without a bound.
        "a_million_dimensions": gguf([], [listed(b"t", [1], TYPE_F32, 0, num_dimensions=10**6)]),
        "dimensions_of_all_bits": gguf([], [listed(b"t", [1], TYPE_F32, 0, num_dimensions=2**32 - 1)]),
        # ggml-org/llama.cpp pull requests 14595 (CVE-2025-53630), 18674, 19856: sizes and their sum wrap.
        "product_of_dimensions_wraps": gguf([], [listed(b"t", [BIG, BIG], TYPE_F32, 0)], bytes(32)),
        "size_in_bytes_wraps": gguf([], [listed(b"t", [2**61], TYPE_I64, 0)], bytes(32)),
        "sum_of_sizes_wraps": gguf([], [listed(b"a", [2**61 - 8], TYPE_F32, 0), listed(b"b", [2**61], TYPE_F32, 2**63 - 32)],
                                   bytes(64)),
        "negative_dimension": gguf([], [listed(b"t", [2**64 - 1], TYPE_F32, 0)], bytes(32)),
        # ml-explore/mlx issue 4244: a size that 32 bits cut to a small one.
        "size_past_32_bits": gguf([], [listed(b"t", [BIG + 32], TYPE_Q8_0, 0)], bytes(64)),
        # ggml-org/llama.cpp pull request 27188: counts and lengths far beyond the file.
        "huge_tensor_count": gguf(num_tensors=huge),
        "huge_metadata_count": gguf(num_entries=huge),
        "huge_string": gguf([entry(b"k", STRING, text(b"a", huge))]),
        "huge_key": gguf([text(b"k", huge)], num_entries=1),
        "huge_array": gguf([entry(b"k", ARRAY, array(U8, huge))]),
        "huge_array_of_strings": gguf([entry(b"k", ARRAY, array(STRING, 2**61))]),
        "array_of_arrays": gguf([entry(b"k", ARRAY, array(ARRAY, 2**62, array(ARRAY, 2**62)))]),
        # CVE-2025-49847: a token longer than 2^31 turns negative.
        "token_of_two_gigabytes": gguf([entry(b"tokenizer.ggml.tokens", ARRAY, array(STRING, 1, text(b"a", 2**31 + 1)))]),
        "alignment_of_zero": gguf([entry(b"general.alignment", U32, struct.pack("<I", 0))]),
        "alignment_no_power_of_two": gguf([entry(b"general.alignment", U32, struct.pack("<I", 48))]),
        "alignment_of_two_to_63": gguf([entry(b"general.alignment", U64, struct.pack("<Q", huge))]),
        "overlapping_tensors": gguf([], [listed(b"a", [16], TYPE_F32, 0), listed(b"b", [4], TYPE_F32, 32)], bytes(64)),
        "offset_past_the_end": gguf([], [listed(b"t", [4], TYPE_F32, 2**64 - 32)], bytes(32)),
        "one_tensor_twice": gguf([], [listed(b"t", [4], TYPE_F32, 0), listed(b"t", [4], TYPE_F32, 32)], bytes(64)),
        "one_key_twice": gguf([entry(b"k", U8, b"\1"), entry(b"k", U8, b"\1")]),
        "unknown_value_type": gguf([entry(b"k", 99, b"\1")]),
        "unknown_tensor_type": gguf([], [listed(b"t", [4], 200, 0)], bytes(32)),
        "block_not_whole": gguf([], [listed(b"t", [33], TYPE_Q8_0, 0)], bytes(96)),
    }


def tokenizer(**changes):
    vocabulary = {character: i for i, character in enumerate("abcdefgh\u0120")} | {"ab": 9, "\u0120a": 10}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["a b", "\u0120 a"]}
    return json.dumps({
        "version": "1.0", "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 11, "content": "<s>", "special": True, "normalized": False, "lstrip": False,
                          "rstrip": False, "single_word": False}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": model | changes.pop("model", {})} | changes).encode()


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def tokenizer_json_seeds():
    return {
        "valid_byte_level": tokenizer(),
        "valid_nfc": tokenizer(normalizer={"type": "NFC"}),
        "valid_split": tokenizer(pre_tokenizer=split(r"\p{L}+|\p{N}{1,3}|\s+(?!\S)")),
        "valid_pairs": tokenizer(model={"merges": [["a", "b"]]}),
        "catastrophic_pattern": tokenizer(pre_tokenizer=split("(a+)+$")),
        "broken_pattern": tokenizer(pre_tokenizer=split("(((")),
        "huge_id": tokenizer(model={"vocab": {"a": 2**62}}),
        "negative_id": tokenizer(model={"vocab": {"a": -1}}),
        "id_twice": tokenizer(model={"vocab": {"a": 1, "b": 1}}),
        "merge_of_unknown_token": tokenizer(model={"merges": ["x y"]}),
        "merge_of_one_part": tokenizer(model={"merges": ["ab"]}),
        "deep_nesting": b'{"model":' + b"[" * 4000 + b"]" * 4000 + b"}",
    }


def main():
    for name, seeds in (("safetensors", safetensors_seeds()), ("gguf", gguf_seeds()), ("tokenizer_json", tokenizer_json_seeds())):
        folder = SEEDS / name
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, content in seeds.items():
            (folder / file_name).write_bytes(content)


if __name__ == "__main__":
    main()
