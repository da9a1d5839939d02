#!/usr/bin/env python3
"""Measures the baselines of the arrival-delay task into baseline.json; scikit-learn, a few seconds."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402

import baseline  # noqa: E402

# Single words, one-letter and numeric ones included: a carrier, an airport, an hour.
WORDS = TfidfVectorizer(token_pattern=r"\b\w+\b")

if __name__ == "__main__":
    sys.exit(baseline.main(HERE, "label", WORDS, strength=1))
