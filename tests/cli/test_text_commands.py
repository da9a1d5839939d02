"""deepseek-train tokenize and inspect."""

import json

from tests.conftest import run
from tokenizers import Tokenizer

TEXTS = ["", "The 12 quick foxes don't jump.\n", "今天天气很好 <|im_end|> é\u0301 😀", " \t x"]
RECIPE = """
name: look
model_name_or_path: {model}
data:
  train: {folder}/train.jsonl
  think: {think}
training:
  max_steps: 1
"""
CHAT = {"messages": [{"role": "user", "content": "2+2?\x1b[31m"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}]}


def test_tokenize_prints_the_ids_of_each_line(program, tiny_model, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text, "more": 1}) + "\n" for text in TEXTS) + "\n", encoding="utf-8")
    reference = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    lines = run([program, "tokenize", tiny_model / "tokenizer.json", file]).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [reference.encode(text, add_special_tokens=False).ids for text in TEXTS]


def test_tokenize_names_the_line_that_is_wrong(program, tiny_model, tmp_path):
    file = tmp_path / "texts.jsonl"
    for wrong in ('{"txt": "a"}', '{"text": 1}', "[]", "{"):
        file.write_text('{"text": "a"}\n' + wrong + "\n")
        result = run([program, "tokenize", tiny_model / "tokenizer.json", file], check=False)
        assert result.returncode == 1 and f"{file}:2: " in result.stderr and '"text"' in result.stderr


def inspect(program, recipe, *options, **keywords):
    return run([program, "inspect", recipe, *options], **keywords)


def test_inspect_marks_what_is_trained_on(program, tiny_model, tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, folder=tmp_path, think="keep"))
    assert "a[[b" in inspect(program, recipe).stdout
    (tmp_path / "train.jsonl").write_text((json.dumps(CHAT) + "\n") * 2)
    shown = inspect(program, recipe, "--record", "2").stdout
    assert "train.jsonl:2, record 2 of 2: " in shown
    assert "<|im_start|>assistant\n[[<think>\nhm\n</think>\n\n4<|im_end|>]]\n" in shown
    assert "\\x1b[31m" in shown and "\x1b" not in shown
    assert "\x1b[1;32m<think>" in inspect(program, recipe, "--color", "always").stdout
    recipe.write_text(RECIPE.format(model=tiny_model, folder=tmp_path, think="mask"))
    assert "</think>[[\n\n4<|im_end|>]]" in inspect(program, recipe).stdout
    recipe.write_text(RECIPE.format(model=tiny_model, folder=tmp_path, think="drop"))
    assert "assistant\n[[4<|im_end|>]]" in inspect(program, recipe).stdout


def test_inspect_past_the_end_and_a_wrong_policy(program, tiny_model, tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(CHAT) + "\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, folder=tmp_path, think="keep"))
    result = inspect(program, recipe, "--record", "2", check=False)
    assert result.returncode == 1 and "record 2 of" in result.stderr and "it has 1" in result.stderr
    recipe.write_text(RECIPE.format(model=tiny_model, folder=tmp_path, think="hide"))
    result = inspect(program, recipe, check=False)
    assert result.returncode == 1 and "data.think" in result.stderr and "recipe.yaml:6" in result.stderr
