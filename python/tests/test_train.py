"""train(): the whole of a tiny recipe inside the process."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import deepseek_train
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import ROOT


def test_a_tiny_recipe(recipe, tmp_path):
    steps = []
    result = deepseek_train.train(recipe, on_step=lambda step, values: steps.append((step, values["loss"])))
    run_folder = tmp_path / "runs" / "tiny"
    assert result["finished"] and (result["rank"], result["size"]) == (0, 1)
    assert result["run_folder"] == str(run_folder)
    assert [step for step, _ in steps] == [1, 2, 3]
    assert [(entry["step"], entry["loss"]) for entry in result["log_history"]] == steps
    assert [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()] == result["log_history"]
    assert set(result["exports"]) == {"bf16", "w8a8", "w8a8-ptq"}
    model = AutoModelForCausalLM.from_pretrained(result["exports"]["bf16"])
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_two_ranks_train_together(launch, recipe, tmp_path):
    code = """
import json, sys
import deepseek_train
result = deepseek_train.train(sys.argv[1])
print(json.dumps([result["rank"], result["size"], result["log_history"][-1]["loss"]]))
"""
    # mpirun may join the ranks' lines.
    results = [json.loads(text) for text in re.findall(r"\[.*?\]", launch(2, code, recipe).stdout)]
    assert len(results) == 2
    assert sorted(result[:2] for result in results) == [[0, 2], [1, 2]]
    assert results[0][2] == results[1][2]
    assert len((tmp_path / "runs" / "tiny" / "log.jsonl").read_text().splitlines()) == 3


def test_a_typo_is_named_with_its_line(recipe):
    recipe.write_text(recipe.read_text().replace("max_steps", "max_step"))
    with pytest.raises(deepseek_train.InvalidArgument, match=r"recipe.yaml:11: .*max_steps") as error:
        deepseek_train.train(recipe)
    assert isinstance(error.value, ValueError)


def test_a_missing_recipe():
    with pytest.raises(deepseek_train.NotFound, match="no/such/recipe.yaml"):
        deepseek_train.train("no/such/recipe.yaml")


def test_a_callback_that_raises_ends_the_training(recipe):
    def on_step(step, values):
        raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        deepseek_train.train(recipe, on_step=on_step)


def make_long(recipe):
    recipe.write_text(recipe.read_text().replace("max_steps: 2", "max_steps: 100000"))


def test_ctrl_c_saves_and_raises(recipe, tmp_path):
    make_long(recipe)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    reached = []

    def on_step(step, values):
        reached.append(step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        deepseek_train.train(recipe, on_step=on_step)
    last = reached[-1]
    assert last <= 4  # the step after which it came, or the next
    assert (tmp_path / "runs" / "tiny" / f"checkpoint-{last}" / "COMPLETE").exists()

    # The same call goes on, here until it is stopped by SIGTERM.
    def stop(step, values):
        reached.append(step)
        if step == last + 2:
            os.kill(os.getpid(), signal.SIGTERM)

    result = deepseek_train.train(recipe, on_step=stop)
    assert not result["finished"] and reached[reached.index(last) + 1] == last + 1 and reached[-1] <= last + 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_does_not_wait(recipe, tmp_path):
    make_long(recipe)

    before = signal.getsignal(signal.SIGINT)

    def on_step(step, values):
        # Any thread may take a signal, and two that wait at once count as one.
        os.kill(os.getpid(), signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is not before:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)  # until it arrives

    with pytest.raises(KeyboardInterrupt):
        deepseek_train.train(recipe, on_step=on_step)
    assert not list((tmp_path / "runs" / "tiny").glob("checkpoint-*"))


def test_ctrl_c_on_mpirun_saves_on_all_ranks(recipe, tmp_path):
    make_long(recipe)
    code = """
import sys
import deepseek_train
result = deepseek_train.train(sys.argv[1], on_step=lambda step, values: print("step", step, flush=True))
print("finished:", result["finished"], flush=True)
"""
    command = 'source cmake/env.sh && exec mpirun -n 2 "$0" -c "$1" "$2"'
    environment = os.environ | {
        "PYTHONPATH": os.path.dirname(os.path.dirname(deepseek_train.__file__)),
        "OMPI_MCA_odls_base_sigkill_timeout": "5",
    }
    process = subprocess.Popen(
        ["bash", "-c", command, sys.executable, code, str(recipe)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if "step 3" in line:
                process.send_signal(signal.SIGINT)
                break
        began = time.monotonic()
        rest = process.stdout.read()
        process.wait(60)
    finally:
        watchdog.cancel()
        process.kill()
    assert rest.count("finished: False") == 2, rest
    assert time.monotonic() - began < 45
    assert list((tmp_path / "runs" / "tiny").glob("checkpoint-*/COMPLETE"))


def test_other_threads_run_while_it_trains(recipe):
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.001):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        deepseek_train.train(recipe)
    finally:
        done.set()
        thread.join()
    # With the interpreter locked there would be one before and one after it; the training takes some 50 ms.
    assert len(ticks) > 4
