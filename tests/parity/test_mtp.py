"""The multi-token prediction layer of DeepSeek-V3 against transformers' MtpModel, and through an export."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.parity.conftest import make, ours, randomize, relative_difference, token_ids, write_tokenizer
from tests.parity.test_families import TOLERANCE, reference_gradients
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import MtpModel

LAYER = 3  # behind the three of the family


def checkpoint_names(mtp, main):
    """transformers' multi-token prediction layer under the names of DeepSeek's checkpoints, with its copies."""
    renamed = {"post_norm": "shared_head.norm"}
    for name, tensor in mtp.layers[0].state_dict().items():
        name = name.removeprefix("mtp_block.")
        for old, new in renamed.items():
            name = name.replace(old, new)
        if name.endswith("experts.gate_up_proj"):
            for i, both in enumerate(tensor):
                gate, up = both.chunk(2)
                yield name.replace("gate_up_proj", f"{i}.gate_proj.weight"), gate
                yield name.replace("gate_up_proj", f"{i}.up_proj.weight"), up
        elif name.endswith("experts.down_proj"):
            for i, down in enumerate(tensor):
                yield name.replace("down_proj", f"{i}.down_proj.weight"), down
        else:
            yield name, tensor
    yield "embed_tokens.weight", main.model.embed_tokens.weight
    yield "shared_head.head.weight", main.lm_head.weight


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """(the main model, its multi-token prediction layer, the folder with both)."""
    folder = tmp_path_factory.mktemp("mtp")
    main = make("deepseek-v3")
    main.config.num_mtp_layers = 1
    mtp = MtpModel(main, 1).eval()
    mtp.config._attn_implementation = "eager"
    randomize(mtp.layers, seed=5)
    main.save_pretrained(folder)
    write_tokenizer(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in checkpoint_names(mtp, main):
        tensors[f"model.layers.{LAYER}.{name}"] = tensor.detach().clone().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return main, mtp, folder


def reference_logits(main, mtp, ids):
    """Place i sees the hidden state of token i and token i + 1, and predicts token i + 2."""
    hidden = main.model(ids, use_cache=False).last_hidden_state[:, :-1]
    embedded = main.model.embed_tokens(ids[:, 1:])
    positions = torch.arange(ids.shape[1] - 1).unsqueeze(0)
    mask = create_causal_mask(config=mtp.config, inputs_embeds=embedded, attention_mask=None, past_key_values=None,
                              position_ids=positions)  # fmt: skip
    rotations = mtp.rotary_emb(embedded, positions)
    return main.lm_head(mtp.layers[0](embedded, hidden, rotations, mask, positions, None))


def test_logits_and_gradients(predictor, tmp_path):
    main, mtp, folder = predictor
    ids = token_ids(2, 96)
    main.zero_grad()
    mtp.zero_grad()
    logits = reference_logits(main, mtp, ids)
    result = ours(folder, ids, tmp_path, "mtp", "gradients")
    assert result["mtp_logits"].shape == (2, 95, logits.shape[-1])
    assert relative_difference(result["mtp_logits"], logits.detach()) <= TOLERANCE
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 2:].flatten()).backward()
    expected = dict(reference_gradients(main))
    for name, gradient in reference_gradients(mtp.layers[0]):
        name = name.removeprefix("mtp_block.").replace("post_norm", "shared_head.norm")
        expected[f"model.layers.{LAYER}.{name}"] = gradient
    for name, gradient in expected.items():
        assert relative_difference(result[f"grad.{name}"], gradient) <= TOLERANCE, name
    assert len(expected) == sum(key.startswith("grad.") for key in result)


def test_fused_kernels_agree(predictor, tmp_path):
    main, mtp, folder = predictor
    ids = token_ids(2, 96)
    with torch.no_grad():
        logits = reference_logits(main, mtp, ids)
    assert relative_difference(ours(folder, ids, tmp_path, "mtp", "fast")["mtp_logits"], logits) <= TOLERANCE


def test_an_export_keeps_the_layer_and_its_copies(predictor, tmp_path):
    """Our folder holds the same tensors bit by bit, and transformers finds its layer in it."""
    main, mtp, folder = predictor
    exported = tmp_path / "exported"
    ids = token_ids(1, 32)
    ours(folder, ids, tmp_path, f"export={exported}")
    before, after = load_file(folder / "model.safetensors"), load_file(exported / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {f"model.layers.{LAYER}.{copy}.weight" for copy in ("embed_tokens", "shared_head.head")} <= after.keys()
    reloaded = type(main).from_pretrained(exported, attn_implementation="eager").eval()
    # transformers looks for the released models' layer numbers only.
    reloaded._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{LAYER}\."]
    found = MtpModel.from_pretrained(reloaded).eval()
    with torch.no_grad():
        assert torch.equal(reference_logits(reloaded, found, ids), reference_logits(main, mtp, ids))
