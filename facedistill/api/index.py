"""Nearest rows by cosine: exact, or by a graph of faiss in a large gallery."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facedistill.errors import UserError

LARGEST_EXACT = 100_000
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 80, 128  # of the graph


class Index:
    """Finds the rows that are most similar to a unit row.

    Args:
        rows: (N, D) unit rows.
        largest_exact: With more rows than this, faiss builds a graph (HNSW, Malkov and Yashunin 2018), which may miss
            a row. Building takes time once, which pays for many searches.

    Raises:
        UserError: If faiss is needed and not installed.
    """

    def __init__(self, rows: Tensor, largest_exact: int = LARGEST_EXACT) -> None:
        self._rows, self._graph = rows, None
        if len(rows) > largest_exact:
            self._graph = _graph(rows, largest_exact)

    def nearest(self, row: Tensor, top: int) -> list[tuple[int, float]]:
        """Index and cosine of the `top` most similar rows to a (1, D) unit row, the best first."""
        if self._graph is None:
            scores, indices = (self._rows @ row[0]).topk(top)
            return list(zip(indices.tolist(), scores.tolist(), strict=True))
        self._graph.hnsw.efSearch = max(_SEARCH_WIDTH, top)
        found, places = self._graph.search(row.numpy(), top)
        return [(int(i), float(s)) for i, s in zip(places[0], found[0], strict=True) if i >= 0]


def _graph(rows: Tensor, largest_exact: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            f"a gallery of {len(rows):,} faces: more than {largest_exact:,} need faiss; pip install faiss-cpu"
        ) from error
    graph = faiss.IndexHNSWFlat(rows.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _BUILD_WIDTH
    graph.add(torch.as_tensor(rows).contiguous().numpy())
    return graph
