"""What a TokenStore holds."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Document(NamedTuple):
    """One training example."""

    tokens: npt.NDArray[np.uint32]
    """Token ids, [n]."""
    loss_spans: npt.NDArray[np.int64]
    """Begin and end of the token positions that are trained on, [m, 2], half-open, rising."""
