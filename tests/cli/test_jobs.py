"""The program as users run it: whole jobs on a tiny model, stopped, killed and resumed; and bad input."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file
from tests.conftest import ROOT, run

RECIPE = """
name: trial
output_dir: {folder}/runs
model_name_or_path: {model}
compute_dtype: float32
data:
  train: {folder}/train.jsonl
  test: {folder}/test.jsonl
  prompt: "Say {{word}}:"
  answer: " {{word}}"
  max_length: 32
training:
  max_steps: 10
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  save_steps: 3
quantization:
  scheme: w8a8
  qat_steps: 4
evaluation:
  max_new_tokens: 4
  context: 64
communication:
  timeout_seconds: 20
"""


class Job:
    """A folder with data and a recipe."""

    def __init__(self, folder, model, recipe=RECIPE):
        self.folder, self.run_folder = folder, folder / "runs" / "trial"
        words = ["red", "green", "blue", "black", "white", "brown"]
        for name, count in (("train", 48), ("test", 13)):
            lines = [json.dumps({"word": words[i % 6]}) for i in range(count)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(recipe.format(folder=folder, model=model))

    def edit(self, old, new):
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))


@pytest.fixture
def job(tmp_path, tiny_model):
    return Job(tmp_path, tiny_model)


def environment():
    # A rank that fails makes mpirun wait twice this long before it ends.
    return {**os.environ, "OMPI_MCA_odls_base_sigkill_timeout": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none"}  # fmt: skip


def mpirun(program, *arguments, ranks=2, check=True):
    return run(["mpirun", "-n", ranks, program, *arguments], env=environment(), timeout=120, check=check)


def start(program, job, ranks=2):
    return subprocess.Popen(
        ["mpirun", "-n", str(ranks), str(program), "train", str(job.recipe)], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip


def ranks_of(process):
    """Process ids of the ranks that this mpirun has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if int(fields[1]) == process.pid and name.startswith("deepseek"):
                found.append(int(entry.name))
    return sorted(found)


def wait_for_step(job, step, process):
    log = job.run_folder / "log.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and f'"step":{step},' in log.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached:\n{process.communicate()[0]}")


def errors(result):
    return [line for line in (result.stdout + result.stderr).splitlines() if "deepseek-train: error" in line]


def exported(job):
    return [(job.run_folder / "export" / kind / "model.safetensors").read_bytes() for kind in ("bf16", "w8a8")]


@pytest.fixture(scope="session")
def whole_run(program, tiny_model, tmp_path_factory):
    """A job that nothing disturbed."""
    job = Job(tmp_path_factory.mktemp("whole"), tiny_model)
    result = mpirun(program, "run", job.recipe)
    job.output = result.stdout
    return job


def test_the_whole_job(whole_run):
    report = json.loads((whole_run.run_folder / "report.json").read_text())
    for key in ("accuracy", "interval", "perplexity", "bytes"):
        assert set(report[key]) >= {"base", "tuned", "int8_ptq", "int8_qat"}, key
    assert set(report["tokens_per_second"]) == {"fp32", "bf16", "int8"}
    assert report["int8_kernel"]["products_per_forward"] == 2 * 7
    assert report["num_test_records"] == 13
    assert "step 14/14" in whole_run.output
    assert "<svg" in (whole_run.run_folder / "report.html").read_text()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(whole_run.run_folder / "export" / "w8a8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(whole_run.run_folder / "export" / "w8a8")
    assert loaded(**tokenizer("Say red:", return_tensors="pt")).logits.isfinite().all()


def test_the_same_run_gives_the_same_bytes(whole_run, job, program):
    mpirun(program, "train", job.recipe)
    assert exported(job) == exported(whole_run)


@pytest.mark.parametrize("step", [5, 12])
def test_killed_and_resumed_equals_uninterrupted(whole_run, job, program, step):
    process = start(program, job)
    wait_for_step(job, step, process)
    os.killpg(process.pid, signal.SIGKILL)
    for rank in ranks_of(process):
        os.kill(rank, signal.SIGKILL)
    process.communicate(timeout=60)
    time.sleep(0.5)
    result = mpirun(program, "train", job.recipe)
    assert "going on from step" in result.stderr + result.stdout
    assert exported(job) == exported(whole_run)


def test_a_run_that_ended_its_tuning_but_not_its_exports_goes_on(job, program):
    job.edit("max_steps: 10", "max_steps: 9")
    job.edit("save_steps: 3", "save_steps: 9")
    mpirun(program, "train", job.recipe)
    first = exported(job)
    assert [p.name for p in job.run_folder.glob("checkpoint-*")] == ["checkpoint-9"]
    shutil.rmtree(job.run_folder / "export")
    result = mpirun(program, "train", job.recipe)
    assert "going on from step 9" in result.stderr + result.stdout
    assert exported(job) == first


def test_ctrl_c_saves_and_the_same_command_resumes(whole_run, job, program):
    process = start(program, job)
    wait_for_step(job, 4, process)
    process.send_signal(signal.SIGINT)  # as a terminal does: mpirun gets it, its ranks do not
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    saved = [p.name for p in job.run_folder.glob("checkpoint-*") if (p / "COMPLETE").exists()]
    assert saved and saved != ["checkpoint-3"], output
    mpirun(program, "train", job.recipe)
    assert exported(job) == exported(whole_run)


def test_a_killed_rank_is_named_once_and_nothing_hangs(job, program):
    process = start(program, job)
    wait_for_step(job, 2, process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    lines = [line for line in output.splitlines() if "deepseek-train: error" in line]
    assert len(lines) == 1 and "rank 1" in lines[0], output


def expect_one_error(result, *parts):
    assert result.returncode != 0
    lines = errors(result)
    assert len(lines) == 1, result.stdout + result.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def test_a_recipe_typo(job, program):
    job.edit("max_steps", "max_step")
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "recipe.yaml:", "max_step", "training.max_steps")


def test_missing_files(job, program, tmp_path):
    expect_one_error(mpirun(program, "run", tmp_path / "absent.yaml", check=False), "absent.yaml")
    (job.folder / "train.jsonl").unlink()
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "train.jsonl")


def test_an_absent_model(job, program):
    job.edit("/model\n", "/no-model\n")
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "no-model")


def test_a_damaged_record_names_its_line(job, program):
    train = job.folder / "train.jsonl"
    train.write_text(train.read_text().replace('{"word": "blue"}', '{"wrd": "blue"}', 1))
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "train.jsonl:3", "word")
    assert not (job.run_folder / "prepared" / "train.h5").exists()


def test_an_unknown_architecture(job, tiny_model, program, tmp_path):
    copy = tmp_path / "mamba"
    copy.mkdir()
    for file in tiny_model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["model_type"] = "mamba"
    (copy / "config.json").write_text(json.dumps(config))
    job.edit(str(tiny_model), str(copy))
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "mamba", "llama")


def with_other_weights(job, tiny_model, folder, change):
    """The job on a copy of the model whose tensors `change` has edited."""
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    job.edit(str(tiny_model), str(folder))


def test_weights_that_are_no_numbers(job, tiny_model, program, tmp_path):
    def change(tensors):
        tensors["model.norm.weight"][3] = np.nan

    with_other_weights(job, tiny_model, tmp_path / "nan", change)
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "model.norm.weight", "NaN")


def test_a_loss_that_is_no_number(job, tiny_model, program, tmp_path):
    def change(tensors):
        tensors["model.norm.weight"][:] = 3e38  # finite, but no logit is
        tensors["model.embed_tokens.weight"] *= 1e3

    with_other_weights(job, tiny_model, tmp_path / "huge", change)
    expect_one_error(mpirun(program, "run", job.recipe, check=False), "step 1", "nan")
    assert not list(job.run_folder.glob("checkpoint-*"))


def test_a_changed_recipe_does_not_resume(whole_run, program):
    original = whole_run.recipe.read_text()
    whole_run.edit("learning_rate: 1.0e-3", "learning_rate: 2.0e-3")
    try:
        expect_one_error(mpirun(program, "train", whole_run.recipe, check=False), "learning_rate", "another name")
    finally:
        whole_run.recipe.write_text(original)


def test_a_full_disk(job, program):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # Room for the checkpoint's weights (6.4 MB), not for the optimizer's moments (12.7 MB).
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, 8_000_000))

    result = run([program, "train", job.recipe], env=environment(), check=False, preexec_fn=limit)
    expect_one_error(result, "space", "checkpoint-3")
    leftovers = [p for p in job.run_folder.rglob("*") if "partial" in p.name]
    assert not leftovers, leftovers
    mpirun(program, "train", job.recipe, ranks=1)  # with room, the same command succeeds
