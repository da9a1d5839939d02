"""Recipes whose records are chats: tokens and loss spans as transformers' chat template has them."""

import json
import shutil
import sys

import pytest
from tests.conftest import BUILD, run
from transformers import AutoTokenizer

sys.path.insert(0, str(BUILD / "python"))

RECIPE = """
name: chat
output_dir: {folder}/runs
model_name_or_path: {model}
compute_dtype: float32
data:
  train: {folder}/train.jsonl
  test: {folder}/test.jsonl
training:
  max_steps: 2
  per_device_train_batch_size: 2
evaluation:
  context: 64
"""

CHATS = [
    [{"role": "user", "content": "Which section is chess in?"}, {"role": "assistant", "content": "It is in games."}],
    [{"role": "system", "content": "You sort packages."}, {"role": "user", "content": "A mail reader\nfor 2 users"},
     {"role": "assistant", "content": "mail"}, {"role": "user", "content": "And a browser?"},
     {"role": "assistant", "content": "web, in 3 of 4 cases"}],
    [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好！"}],
]  # fmt: skip


def open_ai(messages):
    return {"messages": messages}


def share_gpt(messages):
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in messages]}


def alpaca(messages):
    system = [m["content"] for m in messages if m["role"] == "system"]
    turns = [m["content"] for m in messages if m["role"] != "system"]
    question, _, rest = turns[-2].partition("\n")
    record = {"instruction": question, "input": rest, "output": turns[-1], "history": [*zip(turns[:-2:2], turns[1:-2:2])]}
    return {**record, "system": system[0]} if system else record


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def recipe(tmp_path, smollm2):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path, model=smollm2))
    return path


@pytest.fixture(scope="module")
def tokenizer(smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    run([BUILD / "tests" / "tokenizer_tool", smollm2, "write", folder])
    return AutoTokenizer.from_pretrained(folder)


def ids(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)


def answer_spans(tokenizer, messages):
    """Where each answer stands among the tokens, its <|im_end|> included and the line's end after that not."""
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            begin = len(ids(tokenizer, messages[:i], add_generation_prompt=True))
            yield begin, len(ids(tokenizer, messages[: i + 1])) - 1


@pytest.mark.parametrize("shape", [open_ai, share_gpt, alpaca])
def test_tokens_and_loss_equal_the_chat_template(shape, recipe, program, tokenizer, tmp_path):
    from deepseek_train import TokenStore

    write(tmp_path / "train.jsonl", map(shape, CHATS))
    run([program, "prepare", recipe])
    store = TokenStore(tmp_path / "runs" / "chat" / "prepared" / "train.h5")
    assert len(store) == len(CHATS)
    for i, messages in enumerate(CHATS):
        document = store[i]
        assert document.tokens.tolist() == ids(tokenizer, messages)
        assert [tuple(span) for span in document.loss_spans.tolist()] == list(answer_spans(tokenizer, messages))
        end = document.loss_spans[-1][1]
        assert tokenizer.decode(document.tokens[end - 1 : end]) == "<|im_end|>"


def test_the_whole_job_on_chats(recipe, program, tiny_model, smollm2, tmp_path):
    recipe.write_text(recipe.read_text().replace(str(smollm2), str(tiny_model)))
    for name in ("train", "test"):
        write(tmp_path / f"{name}.jsonl", map(open_ai, CHATS))
    run([program, "run", recipe])
    report = json.loads((tmp_path / "runs" / "chat" / "report.json").read_text())
    assert report["num_test_records"] == len(CHATS)
    assert set(report["accuracy"]) >= {"base", "tuned"}


def error_of(command):
    result = run(command, check=False)
    (line,) = [line for line in (result.stdout + result.stderr).splitlines() if "deepseek-train: error" in line]
    assert result.returncode == 1
    return line


def test_a_model_without_a_chat_template_is_refused_by_file_and_line(recipe, program, tiny_model, smollm2, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    recipe.write_text(recipe.read_text().replace(str(smollm2), str(other)))
    write(tmp_path / "train.jsonl", map(open_ai, CHATS))
    error = error_of([program, "prepare", recipe])
    for part in ("train.jsonl:1: ", "chat_template.jinja", "prompt and answer"):
        assert part in error, error
    # Records that are no chats need no chat template.
    write(tmp_path / "train.jsonl", [{"prompt": "a ", "completion": "b"}])
    run([program, "prepare", recipe])


def test_a_turn_that_the_template_drops_is_named_with_its_line(recipe, program, tiny_model, smollm2, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    (other / "chat_template.jinja").write_text("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    recipe.write_text(recipe.read_text().replace(str(smollm2), str(other)))
    write(tmp_path / "train.jsonl", [open_ai(CHATS[0])])
    error = error_of([program, "prepare", recipe])
    assert "train.jsonl:1: " in error and "drops the assistant's turn 2 of 2" in error, error
    assert not (tmp_path / "runs" / "chat" / "prepared" / "train.h5").exists()
