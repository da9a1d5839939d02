"""The peer of bench_tokenizer: Hugging Face's tokenizers on one thread; prints seconds (median) and a checksum of the ids."""

import json
import os
import statistics
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer  # noqa: E402  (reads the variables above)

tokenizer = Tokenizer.from_file(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as file:
    lines = [json.loads(line)["text"] for line in file]

checksum = 0
for encoding in tokenizer.encode_batch_fast(lines, add_special_tokens=False):
    for i in encoding.ids:
        checksum = (checksum * 1_000_003 + i + 1) % 2_147_483_647
    checksum = checksum * 1_000_003 % 2_147_483_647
seconds = []
for _ in range(3):
    start = time.perf_counter()
    tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": statistics.median(seconds), "checksum": checksum}))
