"""Training from a recipe inside this process."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from deepseek_train._core import TuningJob

OnStep = Callable[[int, dict[str, float]], None]


def train(recipe: str | os.PathLike[str], on_step: OnStep | None = None) -> dict[str, Any]:
    """Carries out a recipe (YAML): prepares the data, fine-tunes, quantizes and exports, on this rank.

    Under mpirun, torchrun or srun every rank calls it with the same recipe. It writes what ``deepseek-train train``
    writes and goes on from the newest checkpoint of the same run. ``on_step(step, values)`` is called on every rank
    after every step with loss, learning_rate, grad_norm and tokens_per_second.

    Ctrl-C saves a checkpoint after the step under way, then raises KeyboardInterrupt (a second Ctrl-C does not wait);
    SIGTERM saves and returns with ``finished`` false, and so do the other ranks. Raises InvalidArgument, with file and
    line, for a recipe that cannot work.

    Returns ``finished`` (false if it was stopped; the same call goes on), ``run_folder``, ``exports`` (folders of
    models by name), ``log_history`` (one dict a step of this call), ``rank`` and ``size``.
    """
    job = TuningJob(os.fspath(recipe))
    run_folder = Path(job.run_folder)
    log_history: list[dict[str, float]] = []
    with _StopOnSignals() as stop:

        def record(step: int, values: dict[str, float]) -> None:
            log_history.append({"step": step, **values})
            if on_step is not None:
                on_step(step, dict(values))

        finished = job.train(record, stop.requested)
    if not finished and signal.SIGINT in stop.received:
        raise KeyboardInterrupt
    return {
        "finished": finished,
        "run_folder": str(run_folder),
        "exports": {folder.name: str(folder) for folder in sorted(run_folder.glob("export/*"))},
        "log_history": log_history,
        "rank": job.rank,
        "size": job.size,
    }


class _StopOnSignals:
    """Notes the signals that ask to stop, so that the step under way can end; a second one acts as it always does.

    Python handles signals on its main thread alone; elsewhere this does nothing. Open MPI tells its ranks of Ctrl-C
    with SIGCONT at once, and with SIGTERM only when its time to save is over.
    """

    def __init__(self) -> None:
        self.received: set[int] = set()
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        return bool(self.received)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            under_mpirun = "OMPI_COMM_WORLD_SIZE" in os.environ
            for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGCONT] if under_mpirun else [])):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.received.add(number)
        signal.signal(number, self._previous[number])
