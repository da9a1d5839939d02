#!/usr/bin/env python3
"""Measures the baselines of the routing task into baseline.json; scikit-learn, a few seconds."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402

import baseline  # noqa: E402

if __name__ == "__main__":
    sys.exit(baseline.main(HERE, "section", TfidfVectorizer(ngram_range=(1, 2)), strength=10))
