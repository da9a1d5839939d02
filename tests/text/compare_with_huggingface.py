#!/usr/bin/env python3
"""Compares our token ids with Hugging Face's on many lines and fuzzed strings; by hand, for it wants real tokenizers.

    python tests/text/compare_with_huggingface.py --tokenizer FOLDER --lines FILE.jsonl --fuzz 100000
    python tests/text/compare_with_huggingface.py --tokenizer FOLDER --golden golden/qwen2_5.jsonl

FOLDER holds tokenizer.json; FILE.jsonl has texts under the key "text", golden files also "ids". Prints one JSON
object; exit code 1 if any line differs.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

BUILD = Path(os.environ.get("DST_BUILD_DIR", Path(__file__).parents[2] / "build" / "release"))
COMMON = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "'s", "'S", "'LL", "'\u017f", "'", "the", " The", "don't", "1", "23", "456789", "²", "Ⅷ", "٣", ".", "...",
          "!", "?\n", "$", "€", "_", "-", "/", "\\", "中", "文字", "，", "。", "カ", "・", "ー", "\u3099", "한국", "é", "e\u0301", "\u0301", "ä", "ß",
          "😀", "👨‍👩‍👧", "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", "\ufeff", "\x00", "\x01", "\x1b", "\x7f", "def f(x):", "    ",
          "<|im_end|>", "<｜User｜>", "<think>", "</think>", "<|", "|>", "http://", "%20", "=" * 9, "abcdefghij" * 8]  # fmt: skip


def assigned_characters():
    """Of Python's Unicode, which is the PCRE2 release's (14); no surrogates."""
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def fuzzed(count, seed):
    chance = random.Random(seed)
    characters = assigned_characters()
    for _ in range(count):
        parts = []
        for _ in range(chance.randrange(1, 40)):
            kind = chance.random()
            if kind < 0.6:
                parts.append(chance.choice(COMMON))
            elif kind < 0.8:
                parts.append(chance.choice(characters))
            else:
                parts.append(chr(chance.randrange(0x20, 0x7F)))
        yield "".join(parts)


def our_ids(folder, texts):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    result = subprocess.run([BUILD / "tests" / "tokenizer_tool", folder, "encode"], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def compare(folder, texts, wanted):
    ours = our_ids(folder, texts)
    different = [i for i, (mine, theirs) in enumerate(zip(ours, wanted, strict=True)) if mine != theirs]
    for i in different[:5]:
        print(f"differs: {texts[i]!r}\n  ours   {ours[i]}\n  theirs {wanted[i]}", file=sys.stderr)
    return {"lines": len(texts), "bytes": sum(len(text.encode()) for text in texts), "different": len(different)}


def texts_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--lines")
    parser.add_argument("--golden")
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(Path(arguments.tokenizer) / "tokenizer.json"))

    def theirs(texts):
        return [encoding.ids for encoding in reference.encode_batch_fast(texts, add_special_tokens=False)]

    results = {}
    if arguments.golden:
        rows = texts_of(arguments.golden)
        results["golden"] = compare(arguments.tokenizer, [row["text"] for row in rows], [row["ids"] for row in rows])
    if arguments.lines:
        texts = [row["text"] for row in texts_of(arguments.lines)]
        results["lines"] = compare(arguments.tokenizer, texts, theirs(texts))
    if arguments.fuzz:
        texts = list(fuzzed(arguments.fuzz, arguments.seed))
        results["fuzzed"] = compare(arguments.tokenizer, texts, theirs(texts))
    print(json.dumps({"tokenizer": arguments.tokenizer, **results}))
    return 1 if any(result["different"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
