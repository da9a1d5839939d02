"""Collectives on NumPy arrays: two ranks under mpirun, and what one process refuses."""

import deepseek_train
import numpy as np
import pytest

COLLECTIVES = """
import sys
import numpy as np
import deepseek_train

backend, transport = sys.argv[1:]
with deepseek_train.Communicator(backend=backend, transport=transport, timeout=30) as communicator:
    rank, size = communicator.rank, communicator.size
    assert size == 2 and communicator.transport == (transport if backend == "native" else "mpi")
    for dtype in ("float32", "float64", "float16", "int64", "int32"):
        for shape in ((), (1,), (0,), (3, 5), (100_003,)):
            start = (np.arange(np.prod(shape, dtype=int)) % 128).reshape(shape).astype(dtype)
            values = {op: np.array(start * (rank + 1)) for op in ("sum", "min", "max", "avg")}
            for op, array in values.items():
                assert communicator.all_reduce(array, op) is None
            assert np.array_equal(values["sum"], start * 3), (dtype, shape)
            assert np.array_equal(values["min"], start) and np.array_equal(values["max"], start * 2)
            average = start * 3 // 2 if start.dtype.kind == "i" else start * start.dtype.type(1.5)
            assert np.array_equal(values["avg"], average), (dtype, shape)
            assert values["sum"].dtype == dtype and values["sum"].shape == shape
    for dtype in ("float32", "int64", "uint8", "int8", "bool"):
        own = np.full((2, 3), rank + 1).astype(dtype)
        gathered = communicator.all_gather(own)
        assert gathered.shape == (2, 2, 3) and gathered.dtype == dtype
        assert np.array_equal(gathered, np.stack([np.full((2, 3), r + 1).astype(dtype) for r in range(2)]))
        communicator.broadcast(own, root=1)
        assert np.array_equal(own, gathered[1])
        parts = np.stack([np.full((3,), 2 * rank + peer).astype(dtype) for peer in range(2)])
        crossed = communicator.all_to_all(parts)
        assert np.array_equal(crossed, np.stack([np.full((3,), 2 * peer + rank).astype(dtype) for peer in range(2)]))
        collected = communicator.gather(own, root=1)
        assert (collected is None) if rank == 0 else np.array_equal(collected, np.stack([own, own]))
        largest = communicator.reduce_scatter(parts, "max")
        assert largest.shape == (3,) and np.array_equal(largest, np.full((3,), 2 + rank).astype(dtype))
    bits = np.array([0b0110 << rank], dtype=np.uint8)
    either, both = bits.copy(), bits.copy()
    communicator.all_reduce(either, "or")
    communicator.all_reduce(both, "and")
    assert either[0] == 0b1110 and both[0] == 0b0100
    communicator.barrier()

    alone = communicator.split(color=rank)
    assert (alone.rank, alone.size) == (0, 1)
    turned = communicator.split(color=0, key=-rank)
    assert (turned.rank, turned.size) == (1 - rank, 2)
    first = communicator.split(0 if rank == 0 else None)
    assert (first is None) == (rank == 1)
print(f"rank {rank} is done")
"""


@pytest.mark.parametrize("backend, transport", [("native", "shm"), ("native", "tcp"), ("mpi", "auto")])
def test_two_ranks(launch, backend, transport):
    output = launch(2, COLLECTIVES, backend, transport).stdout
    # mpirun may join the ranks' lines.
    assert output.count("rank 0 is done") == 1 and output.count("rank 1 is done") == 1


def test_an_exception_on_one_rank_reaches_the_other_at_once(launch):
    code = """
import sys, time
import numpy as np
import deepseek_train

rank = deepseek_train.Communicator().rank
began = time.monotonic()
try:
    with deepseek_train.Communicator(timeout=60) as communicator:
        communicator.barrier()
        if rank == 1:
            raise ValueError("the disk is on fire")
        communicator.all_reduce(np.zeros(3))
except deepseek_train.PeerFailure as failure:
    assert rank == 0 and "the disk is on fire" in str(failure) and isinstance(failure, RuntimeError)
except ValueError:
    assert rank == 1
else:
    raise SystemExit("no rank noticed")
assert time.monotonic() - began < 20
print(f"rank {rank} noticed")
"""
    output = launch(2, code).stdout
    assert output.count("noticed") == 2


def test_different_calls_are_an_error_and_no_hang(launch):
    code = """
import numpy as np
import deepseek_train

communicator = deepseek_train.Communicator(timeout=20)
try:
    communicator.all_reduce(np.zeros(3 + communicator.rank))
except (deepseek_train.InvalidArgument, deepseek_train.PeerFailure) as error:
    print("refused:", error)
"""
    assert launch(2, code).stdout.count("refused:") == 2


def test_a_single_process_is_a_group_of_one():
    with deepseek_train.Communicator() as communicator:
        assert (communicator.rank, communicator.size) == (0, 1)
        array = np.arange(5.0)
        communicator.all_reduce(array)
        assert np.array_equal(array, np.arange(5.0))
        assert communicator.all_gather(array).shape == (1, 5)
        assert "rank 0 of 1" in repr(communicator)


@pytest.fixture(scope="module")
def communicator():
    with deepseek_train.Communicator() as communicator:
        yield communicator


def read_only():
    array = np.zeros(4)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array, what",
    [
        (np.zeros((4, 4))[:, 1], "ascontiguousarray"),
        (np.zeros((4, 4), order="F"), "ascontiguousarray"),
        (read_only(), "read-only"),
        (np.zeros(4, dtype=">f4"), "byte order"),
        (np.zeros(4, dtype=complex), "complex128"),
        (np.array(["text"]), "cannot be sent"),
        (np.zeros(4, dtype=bool), "all_reduce cannot take sum of bool"),
    ],
)
def test_arrays_that_cannot_be_reduced(communicator, array, what):
    with pytest.raises(deepseek_train.InvalidArgument, match=what):
        communicator.all_reduce(array)


def test_other_mistakes_of_the_caller(communicator):
    with pytest.raises(TypeError, match="NumPy array"):
        communicator.all_reduce([1.0, 2.0])
    with pytest.raises(deepseek_train.InvalidArgument, match="mean.*wanted sum, min, max, avg, prod, and or or"):
        communicator.all_reduce(np.zeros(1), "mean")
    with pytest.raises(ValueError, match="root 1 is not a rank"):
        communicator.broadcast(np.zeros(1), root=1)
    with pytest.raises(deepseek_train.InvalidArgument, match="color is -1"):
        communicator.split(-1)
    with pytest.raises(deepseek_train.InvalidArgument, match="timeout is 0"):
        deepseek_train.Communicator(timeout=0)
    with pytest.raises(deepseek_train.InvalidArgument, match="gloo"):
        deepseek_train.Communicator(backend="gloo")
    communicator.barrier()  # still good


def test_a_closed_communicator_says_so():
    communicator = deepseek_train.Communicator()
    communicator.close()
    communicator.close()
    with pytest.raises(deepseek_train.InvalidArgument, match="closed"):
        communicator.barrier()
    assert communicator.rank == 0 and "closed" in repr(communicator)


def test_a_launch_that_contradicts_itself_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(deepseek_train.InvalidArgument, match="RANK"):
        deepseek_train.Communicator()
