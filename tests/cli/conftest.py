"""Shared by the tests of the program."""

import pytest
import transformers
from tests.conftest import run


@pytest.fixture(scope="session")
def tiny_model(program, smollm2, tmp_path_factory):
    """A Llama of two small layers with SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    run([program, "export", smollm2, "--format", "bf16", "--output", folder])
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=2)  # fmt: skip
    transformers.set_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
