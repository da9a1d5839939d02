"""The sampler against PyTorch's."""

import json

import deepseek_train
import pytest
from torch.utils.data import DataLoader
from torch.utils.data import DistributedSampler as TorchSampler


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_samples, num_replicas", [(1, 1), (1, 4), (10, 3), (12, 4), (13, 6), (17, 16), (1000, 7)])
def test_indices_without_shuffle_equal_pytorchs(num_samples, num_replicas, drop_last):
    for rank in range(num_replicas):
        options = dict(num_replicas=num_replicas, rank=rank, shuffle=False, drop_last=drop_last)
        ours = deepseek_train.DistributedSampler(num_samples, **options)
        theirs = TorchSampler(range(num_samples), **options)
        assert len(ours) == len(theirs)
        assert list(ours) == list(theirs)
        assert list(ours) == list(theirs)  # a second loop begins again
        assert [ours.index(k) for k in range(len(ours))] == list(theirs)


@pytest.mark.parametrize("num_replicas", [1, 2, 5])
def test_shuffled_ranks_share_out_every_sample(num_replicas):
    orders = set()
    for epoch in range(3):
        seen = []
        for rank in range(num_replicas):
            sampler = deepseek_train.DistributedSampler(100, num_replicas, rank, seed=7)
            sampler.set_epoch(epoch)
            seen.append(list(sampler))
        assert sorted(sum(seen, [])) == list(range(100))
        orders.add(tuple(i for round_ in zip(*seen) for i in round_))
    assert len(orders) == 3


def test_the_global_order_is_the_same_for_every_number_of_ranks():
    def global_order(num_replicas):
        ranks = [deepseek_train.DistributedSampler(60, num_replicas, rank, seed=3) for rank in range(num_replicas)]
        return [i for round_ in zip(*ranks) for i in round_]

    assert global_order(1) == global_order(2) == global_order(3) == global_order(4)


def test_a_state_saved_on_two_ranks_goes_on_with_three():
    two = [deepseek_train.DistributedSampler(range(61), 2, rank, seed=1) for rank in range(2)]
    two[0].set_epoch(4), two[1].set_epoch(4)
    seen = [next(loop) for loop in map(iter, two) for _ in range(9)]
    assert two[0].state_dict() == two[1].state_dict()
    state = json.loads(json.dumps(two[0].state_dict()))
    assert state["position"] == 18 and state["epoch"] == 4

    three = [deepseek_train.DistributedSampler(61, 3, rank, seed=1) for rank in range(3)]
    for sampler in three:
        sampler.load_state_dict(state)
        sampler.set_epoch(sampler.epoch)  # what a training loop does
        assert sampler.position == 18
        seen += list(sampler)
    assert sorted(set(seen)) == list(range(61))
    assert len(seen) == 18 + 45  # 43 are left: two are taken again so that all ranks have 15


def test_an_epoch_saved_at_its_end_is_not_repeated():
    sampler = deepseek_train.DistributedSampler(10, shuffle=False)
    list(sampler)
    resumed = deepseek_train.DistributedSampler(10, shuffle=False)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == []
    resumed.set_epoch(1)
    assert list(resumed) == list(range(10))


def test_a_loop_left_early_goes_on():
    sampler = deepseek_train.DistributedSampler(10, shuffle=False)
    for index in sampler:
        if index == 3:
            break
    assert sampler.remaining == 6
    assert list(sampler) == [4, 5, 6, 7, 8, 9]
    sampler.restart()
    sampler.skip(8)
    assert list(sampler) == [8, 9]


def test_pytorchs_data_loader_takes_it():
    sampler = deepseek_train.DistributedSampler(range(10), 2, 1, shuffle=False)
    batches = [batch.tolist() for batch in DataLoader(range(10), batch_size=2, sampler=sampler)]
    assert batches == [[1, 3], [5, 7], [9]]


def test_a_loop_that_ended_stays_ended():
    sampler = deepseek_train.DistributedSampler(3, shuffle=False)
    loop = iter(sampler)
    assert iter(loop) is loop and list(loop) == [0, 1, 2]
    assert next(loop, None) is None and next(iter(loop), None) is None
    assert list(sampler) == [0, 1, 2]


def test_properties():
    sampler = deepseek_train.DistributedSampler(
        dataset=[0] * 9, num_replicas=2, rank=1, shuffle=False, seed=5, drop_last=True
    )
    assert (sampler.num_samples, sampler.num_replicas, sampler.rank) == (9, 2, 1)
    assert (sampler.shuffle, sampler.seed, sampler.drop_last) == (False, 5, True)
    assert (len(sampler), sampler.remaining, sampler.epoch, sampler.position) == (4, 4, 0, 0)
    assert "9 samples, rank 1 of 2" in repr(sampler)


def test_mistakes():
    with pytest.raises(deepseek_train.InvalidArgument, match="rank 2 of 2"):
        deepseek_train.DistributedSampler(10, 2, 2)
    with pytest.raises(ValueError, match="num_samples is 0"):
        deepseek_train.DistributedSampler([])
    sampler = deepseek_train.DistributedSampler(10)
    with pytest.raises(deepseek_train.InvalidArgument, match="sample 10"):
        sampler.index(10)
    with pytest.raises(deepseek_train.InvalidArgument, match="skip of 11"):
        sampler.skip(11)
    with pytest.raises(deepseek_train.InvalidArgument, match="seed"):
        sampler.load_state_dict(deepseek_train.DistributedSampler(10, seed=1).state_dict())
    with pytest.raises(deepseek_train.DataCorruption, match="position"):
        sampler.load_state_dict({"version": 1, "epoch": 0})
    assert sampler.position == 0
