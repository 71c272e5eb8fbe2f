"""Visual tokens that stay on disk: read row by row when a batch needs them, so that a data set may be larger than the memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from dferkit.storage import digest_arrays

_MAX_OPEN = 16


@dataclass(slots=True)
class TokenRows:
    """Rows of one tensor of many safetensors shards; indexing loads them.

    Attributes:
        tensor: Name of the tensor in every shard; its first axis is the row.
        places: (shard, row) of each row. digests: One text per shard that identifies its content.
    """

    paths: tuple[Path, ...]
    tensor: str
    places: np.ndarray
    row_shape: tuple[int, ...]
    dtype: torch.dtype
    digests: tuple[str, ...]
    _open: OrderedDict[int, Any] = field(default_factory=OrderedDict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor's."""
        return (len(self.places), *self.row_shape)

    @property
    def num_bytes(self) -> int:
        """Size of all rows in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        chosen = self.places[index] if isinstance(index, slice) else self.places[index.numpy()]
        out = torch.empty((len(chosen), *self.row_shape), dtype=self.dtype)
        # Shard by shard, so that few files are open at once.
        for place in np.argsort(chosen[:, 0], kind="stable"):
            shard, row = (int(value) for value in chosen[place])
            out[place] = self._handle(shard).get_slice(self.tensor)[row]
        return out

    def take(self, index: np.ndarray) -> TokenRows:
        """Some rows, still on disk."""
        return TokenRows(self.paths, self.tensor, self.places[index], self.row_shape, self.dtype, self.digests)

    def load(self) -> Tensor:
        """All rows in memory."""
        return self[:]

    def _handle(self, shard: int) -> Any:
        if shard not in self._open:
            self._open[shard] = safe_open(self.paths[shard], framework="pt")
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


def take_rows(values: Tensor | TokenRows, index: np.ndarray) -> Tensor | TokenRows:
    """Some rows of tokens, wherever they are."""
    return values.take(index) if isinstance(values, TokenRows) else values[torch.from_numpy(index)]


def digest_rows(values: Tensor | TokenRows) -> str:
    """Identity of these rows: their bytes, or the digests of their shards and their places."""
    if isinstance(values, Tensor):
        return digest_arrays({"visual": values.numpy()})
    used: Sequence[str] = [values.digests[shard] for shard in np.unique(values.places[:, 0])]
    return hashlib.sha256("\n".join(used).encode() + np.ascontiguousarray(values.places).tobytes()).hexdigest()


def not_finite(values: Tensor | TokenRows) -> list[int]:
    """Places of rows that hold NaN or infinity; rows on disk were checked when they were written."""
    if isinstance(values, TokenRows) or bool(torch.isfinite(values).all()):
        return []
    return [int(i) for i in (~torch.isfinite(values).flatten(1).all(1)).nonzero()[:, 0]]
