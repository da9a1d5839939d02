"""A store that `deepseek-train prepare` wrote, read from Python."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import deepseek_train
import numpy as np
import pytest
from tests.conftest import BUILD, run
from transformers import AutoTokenizer


@pytest.fixture
def store_path(recipe, tmp_path):
    run([BUILD / "bin" / "deepseek-train", "prepare", recipe])
    return tmp_path / "runs" / "tiny" / "prepared" / "train.h5"


def test_documents_are_the_records(store_path, tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    store = deepseek_train.TokenStore(store_path)
    assert len(store) == 40
    for i in range(40):
        tokens, loss_spans = document = store.document(i)
        prompt = tokenizer.encode(f"{i} + {i} =", add_special_tokens=False)
        answer = tokenizer.encode(f" {2 * i}", add_special_tokens=False) + [tokenizer.eos_token_id]
        assert tokens.dtype == np.uint32 and tokens.tolist() == prompt + answer
        assert loss_spans.dtype == np.int64 and loss_spans.tolist() == [[len(prompt), len(prompt + answer)]]
        assert document.tokens is tokens and document.loss_spans is loss_spans
        assert store.length(i) == len(tokens)
    assert store.num_tokens == sum(len(document.tokens) for document in store)
    assert store.num_loss_tokens == sum(np.diff(document.loss_spans).sum() for document in store)


def test_where_it_comes_from(store_path, tmp_path):
    store = deepseek_train.TokenStore(str(store_path))
    assert store.path == str(store_path) and "40 documents" in repr(store)
    assert len(store.tokenizer_sha256) == 64
    store.check_tokenizer(store.tokenizer_sha256)
    with pytest.raises(deepseek_train.InvalidArgument, match=store.tokenizer_sha256):
        store.check_tokenizer("0" * 64)
    records = (tmp_path / "train.jsonl").read_bytes()
    assert hashlib.sha256(records).hexdigest() in json.dumps(store.provenance)


def test_as_a_sequence(store_path):
    store = deepseek_train.TokenStore(store_path)
    assert np.array_equal(store[-1].tokens, store.document(39).tokens)
    with pytest.raises(IndexError, match="document 40"):
        store[40]
    with pytest.raises(IndexError):
        store[-41]
    with pytest.raises(deepseek_train.InvalidArgument):
        store.document(-1)
    # As a data set: its length is what a sampler needs.
    assert sorted(deepseek_train.DistributedSampler(store)) == list(range(40))


def test_many_threads_read_the_same(store_path):
    store = deepseek_train.TokenStore(store_path)
    wanted = [document.tokens.tolist() for document in store]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: store.document(i % 40).tokens.tolist(), range(2000)))
    assert found == wanted * 50


def test_bad_files(store_path, tmp_path):
    with pytest.raises(deepseek_train.NotFound, match="nothing.h5") as error:
        deepseek_train.TokenStore(tmp_path / "nothing.h5")
    assert isinstance(error.value, FileNotFoundError) and isinstance(error.value, RuntimeError)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(store_path.read_bytes()[:-100])
    with pytest.raises(deepseek_train.DataCorruption, match="cut.h5"):
        deepseek_train.TokenStore(cut)
