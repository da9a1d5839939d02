"""Trainers that turn a pretrained model and private data into a compressed, verified model.

The same engine as the program ``deepseek-train`` and the C++ library: collectives on NumPy arrays, the order of
samples, token stores, and training from a recipe. ``import torch`` may come before or after: both use one libtorch.
"""

from deepseek_train._core import Communicator, DistributedSampler, TokenStore, __version__
from deepseek_train.document import Document
from deepseek_train.errors import (
    DataCorruption,
    Error,
    Internal,
    InvalidArgument,
    NotFound,
    PeerFailure,
    PermissionDenied,
    Timeout,
    Unavailable,
)
from deepseek_train.training import train

__all__ = [
    "Communicator",
    "DataCorruption",
    "DistributedSampler",
    "Document",
    "Error",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PeerFailure",
    "PermissionDenied",
    "Timeout",
    "TokenStore",
    "Unavailable",
    "__version__",
    "train",
]
