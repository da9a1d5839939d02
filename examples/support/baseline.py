"""The two answers a trained model has to beat: always the commonest class, and tf-idf with logistic regression."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from records import PrepareError, read_records, write_json
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


def measure(train: list[dict], test: list[dict], label: str, vectorizer: TfidfVectorizer, strength: float) -> dict:
    """Accuracies on `test`. `strength` is scikit-learn's C, the inverse of the regularisation."""
    wanted = [record[label] for record in test]
    commonest = Counter(sorted(record[label] for record in train)).most_common(1)[0][0]
    classifier = LogisticRegression(C=strength, max_iter=2000)
    classifier.fit(vectorizer.fit_transform(r["description"] for r in train), [r[label] for r in train])
    return {
        "majority": wanted.count(commonest) / len(wanted),
        "logistic_regression": float(classifier.score(vectorizer.transform(r["description"] for r in test), wanted)),
        "num_test": len(wanted),
    }


def main(here: Path, label: str, vectorizer: TfidfVectorizer, strength: float) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=here / "records", help="folder with {train,test}.jsonl")
    parser.add_argument("--output", type=Path, default=here / "baseline.json")
    options = parser.parse_args()
    try:
        train, test = (
            read_records(options.records / f"{name}.jsonl", "description", label) for name in ("train", "test")
        )
        baseline = measure(train, test, label, vectorizer, strength)
        write_json(options.output, baseline)
    except (PrepareError, OSError) as error:
        print(f"baseline.py: {error}", file=sys.stderr)
        return 1
    print(
        f"majority {baseline['majority']:.3f}, logistic regression {baseline['logistic_regression']:.3f} "
        f"on {baseline['num_test']} records -> {options.output}"
    )
    return 0
