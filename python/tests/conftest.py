"""The package under test is the one of the build tree, which is never older than the library."""

import json
import os
import socket
import sys

import pytest
from tests.conftest import BUILD, run

PACKAGE = BUILD / "python"
sys.path.insert(0, str(PACKAGE))


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="session")
def launch():
    """Runs Python code on `ranks` ranks; the code finds the package and `sys.argv[1:]`."""

    def start(ranks, code, *arguments, check=True, timeout=120):
        environment = os.environ | {
            "PYTHONPATH": str(PACKAGE),
            # Where TCP's ranks meet.
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            # mpirun waits this long after a rank's failure.
            "OMPI_MCA_odls_base_sigkill_timeout": "1",
        }
        command = 'source cmake/env.sh && exec mpirun -n "$0" "$@"'
        return run(
            ["bash", "-c", command, ranks, sys.executable, "-c", code, *arguments],
            check=check,
            timeout=timeout,
            env=environment,
        )

    return start


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A Hugging Face folder of a random Llama of 50,000 parameters with a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny_model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tiny_model, tmp_path):
    """Path of a recipe that trains the tiny model for 2 steps, then for 1 quantized."""
    records = [{"question": f"{i} + {i}", "answer": str(2 * i)} for i in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: tiny\n"
        f"output_dir: {tmp_path}/runs\n"
        f"model_name_or_path: {tiny_model}\n"
        f"compute_dtype: float32\n"
        f"data:\n"
        f"  train: {tmp_path}/train.jsonl\n"
        f'  prompt: "{{question}} ="\n'
        f'  answer: " {{answer}}"\n'
        f"  max_length: 32\n"
        f"training:\n"
        f"  max_steps: 2\n"
        f"  per_device_train_batch_size: 4\n"
        f"quantization:\n"
        f"  scheme: w8a8\n"
        f"  qat_steps: 1\n"
    )
    return path
