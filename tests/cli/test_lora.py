"""Adapters as users train them: a recipe with a section lora."""

import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.cli.test_jobs import RECIPE, Job, expect_one_error, mpirun

LORA = """
lora:
  r: 4
  lora_alpha: 8
  target_modules: [all-linear]
"""


def lora_recipe(**values):
    # Ten steps from B = 0 must show in the loss.
    recipe = RECIPE.replace("  qat_steps: 4\n", "").replace("learning_rate: 1.0e-3", "learning_rate: 3.0e-2")
    return recipe + LORA + "".join(f"  {key}: {value}\n" for key, value in values.items())


@pytest.mark.parametrize("values", [{}, {"use_dora": "true"}, {"base": "nf4"}])
def test_an_adapter_is_trained_saved_and_merged(tmp_path, tiny_model, program, values):
    job = Job(tmp_path, tiny_model, lora_recipe(**values))
    mpirun(program, "run", job.recipe)
    export = job.run_folder / "export"
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    merged = transformers.AutoModelForCausalLM.from_pretrained(export / "bf16", dtype=torch.float32)
    ids = torch.arange(24).view(2, 12) + 100
    with torch.no_grad():
        before = base(ids).logits
        adapted = peft.PeftModel.from_pretrained(base, export / "adapter")(input_ids=ids).logits
        found = merged(ids).logits
    assert (adapted - before).abs().max() > 0
    assert (adapted - found).abs().max() <= 0.02 * adapted.abs().max()  # merged weights are bfloat16
    saved = load_file(job.run_folder / "checkpoint-9" / "model.safetensors")
    assert saved and all("lora_" in name for name in saved)
    losses = [json.loads(line)["loss"] for line in (job.run_folder / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_the_same_command_resumes(tmp_path, tiny_model, program):
    job = Job(tmp_path, tiny_model, lora_recipe(lora_dropout="0.0"))
    mpirun(program, "train", job.recipe)
    adapter = job.run_folder / "export" / "adapter" / "adapter_model.safetensors"
    first = adapter.read_bytes()
    adapter.unlink()
    assert (job.run_folder / "checkpoint-9" / "COMPLETE").exists()
    mpirun(program, "train", job.recipe)  # goes on from step 9
    assert adapter.read_bytes() == first


def test_a_target_that_is_not_there(tmp_path, tiny_model, program):
    job = Job(tmp_path, tiny_model, lora_recipe().replace("all-linear", "w_proj"))
    expect_one_error(mpirun(program, "train", job.recipe, check=False), "w_proj", "q_proj")


def test_quantization_aware_training_does_not_go_with_it(tmp_path, tiny_model, program):
    job = Job(tmp_path, tiny_model, RECIPE + LORA)
    expect_one_error(mpirun(program, "train", job.recipe, check=False), "qat_steps", "lora")
