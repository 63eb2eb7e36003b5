"""Values and pieces of rows as codes into a small codebook: k-means, and product quantization built on it.

Pure arithmetic on arrays, deterministic for a seed. One number a value is the case of weight sharing (an exact Lloyd pass by
sorting, so that a matrix of millions of weights takes a second); pieces of several numbers are the case of product codes.

What must not be undone: a codebook that does not compress is refused. One code of one value is a constant, and a codebook
as large as what it codes is longer than it.

Suffixes: N rows or values, M codes a row, K codes to choose from, W width of a piece, D width.

Source:
    Han et al., "Deep Compression", 2015, section 3 (linear initialization, centroids shared by a tensor); Jégou et al.,
    "Product Quantization for Nearest Neighbor Search", 2011; Ge et al., "Optimized Product Quantization", 2013, section 3.1
    (the non-parametric solution); Arthur and Vassilvitskii, "k-means++", 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from server.encoding.packed_tables import decoded_rows

Floats = npt.NDArray[np.float32]
LARGEST_CODEBOOK = 256  # a code is one byte
_ROWS_AT_ONCE = 16_384


class CodebookRefused(ValueError):
    """Codes would not make it smaller, or there is nothing to code; says the numbers."""


def check_size(codes: int, values: int, what: str) -> None:
    """Refuse a codebook that cannot compress.

    Args:
        codes: K asked for.
        values: how many values (or pieces) would be coded.
        what: of what, for the message.

    Raises:
        CodebookRefused: a codebook of one code, above a byte, or not smaller than what it codes.
    """
    if codes < 2:
        raise CodebookRefused(
            f"{what}: a codebook of {codes} would make everything the same value; use 2 to {LARGEST_CODEBOOK} codes"
        )
    if codes > LARGEST_CODEBOOK:
        raise CodebookRefused(f"{what}: {codes} codes, a code is one byte; use 2 to {LARGEST_CODEBOOK}")
    if codes >= values:
        raise CodebookRefused(
            f"{what}: a codebook of {codes} for {values} values is no smaller than they are; use fewer codes, or leave it out"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Values as codes into a codebook.

    Attributes:
        codebook_K: float32, rising.
        codes: uint8, in the shape of the values.
    """

    codebook_K: Floats
    codes: npt.NDArray[np.uint8]

    def values(self) -> Floats:
        """What is left of the values."""
        found: Floats = self.codebook_K[self.codes]
        return found

    @property
    def bits(self) -> int:
        """Of a code."""
        return max(1, math.ceil(math.log2(len(self.codebook_K))))

    @property
    def stored_bytes(self) -> int:
        """Codes packed to whole bits, and the codebook."""
        return -(-self.codes.size * self.bits // 8) + self.codebook_K.nbytes


def share_values(
    values: npt.NDArray[np.floating[Any]],
    codes: int,
    *,
    rounds: int = 20,
    what: str = "codebook",
    keep_zero: bool = False,
) -> Shared:
    """Code values by the k-means of themselves (one number each), Lloyd's algorithm from a linear start.

    Args:
        values: any shape, finite.
        codes: K, 2..256 and below the number of values.
        rounds: most of Lloyd's.
        what: is coded, for messages.
        keep_zero: zeros stay exactly 0 (a pruned matrix stays pruned): one code is kept for them.

    Raises:
        CodebookRefused: see ``check_size``; or a value is not finite.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    check_size(codes, flat.size, what)
    if not np.isfinite(flat).all():
        raise CodebookRefused(f"{what}: values are not finite; train again")
    zero = keep_zero and bool((flat == 0).any())
    moving = np.sort(flat[flat != 0] if zero else flat)
    wanted = codes - 1 if zero else codes
    distinct = np.unique(moving) if moving.size else np.zeros(1)
    centroids = distinct if distinct.size <= wanted else _lloyd_sorted(moving, wanted, rounds)
    if zero:
        centroids = np.union1d(centroids, [0.0])
    book_K = np.unique(centroids.astype(np.float32))
    middles = (book_K[1:].astype(np.float64) + book_K[:-1]) / 2
    found = np.searchsorted(middles, flat).astype(np.uint8)
    if zero:
        found[flat == 0] = int(np.searchsorted(book_K, 0.0))
    return Shared(book_K, found.reshape(np.shape(values)))


def _lloyd_sorted(rising: npt.NDArray[np.float64], codes: int, rounds: int) -> npt.NDArray[np.float64]:
    # Cells of a line are intervals: means of slices of the sorted values, by one running sum.
    sums = np.concatenate([[0.0], np.cumsum(rising)])
    centroids = np.linspace(rising[0], rising[-1], codes)
    for _ in range(rounds):
        edges = np.searchsorted(rising, (centroids[1:] + centroids[:-1]) / 2)
        edges = np.concatenate([[0], edges, [rising.size]])
        counts = np.diff(edges)
        means = np.divide(np.diff(sums[edges]), counts, out=centroids.copy(), where=counts > 0)
        if np.allclose(means, centroids, rtol=1e-7, atol=0):
            break
        centroids = np.sort(means)
    return centroids


@dataclass(frozen=True, slots=True, eq=False)
class ProductCodes:
    """Rows as product codes.

    Attributes:
        codes_NM: uint8.
        codebook_MKW: float32.
        rotation_DD: orthogonal, multiplies decoded rows; None: none was learnt.
    """

    codes_NM: npt.NDArray[np.uint8]
    codebook_MKW: Floats
    rotation_DD: Floats | None

    def rows(self) -> Floats:
        """What is left of the rows."""
        return decoded_rows(self.codes_NM, self.codebook_MKW, self.rotation_DD)

    @property
    def stored_bytes(self) -> int:
        """Codes, codebook and rotation, the floats in half precision."""
        rotation = 0 if self.rotation_DD is None else self.rotation_DD.size
        return self.codes_NM.nbytes + 2 * (self.codebook_MKW.size + rotation)


def product_codes(
    table_ND: Floats,
    *,
    subspaces: int,
    codes: int,
    rotate: bool = True,
    rounds: int = 12,
    seed: int = 0,
    weights_N: npt.NDArray[np.floating[Any]] | None = None,
) -> ProductCodes:
    """Code the rows of a table.

    Args:
        table_ND: rows.
        subspaces: M, a divisor of D: bytes of a coded row.
        codes: K, 2..256 and below N.
        rotate: learn a rotation that spreads what is hard to code over the pieces (OPQ).
        rounds: of k-means; with a rotation as many turns of k-means and rotation first.
        seed: of the start.
        weights_N: how much a row's error counts (traffic, say); None: all alike.

    Raises:
        CodebookRefused: M does not divide D, or see ``check_size``.
    """
    rows, dim = table_ND.shape
    if subspaces < 1 or dim % subspaces:
        fits = [m for m in range(1, dim + 1) if dim % m == 0]
        raise CodebookRefused(f"{subspaces} subspaces: must divide the width {dim}; use one of {fits}")
    check_size(codes, rows, f"product codes of {rows} rows")
    table = torch.from_numpy(np.ascontiguousarray(table_ND, np.float32))
    weights = torch.ones(rows) if weights_N is None else torch.from_numpy(np.asarray(weights_N, np.float32))
    rotation = torch.eye(dim)
    turned = table
    books, found = _start(turned, subspaces, codes, seed), torch.empty(0)
    if rotate:
        for _ in range(rounds):
            books, found = _turn(turned, weights, books)
            # min |T R' - Y|: R' from the singular vectors of T' Y (orthogonal Procrustes).
            left, _, right = torch.linalg.svd((table * weights[:, None]).T @ _read(books, found))
            rotation = (left @ right).T.contiguous()
            turned = table @ rotation.T
    for _ in range(rounds):
        books, found = _turn(turned, weights, books)
    return ProductCodes(
        codes_NM=found.numpy().astype(np.uint8),
        codebook_MKW=books.numpy(),
        rotation_DD=rotation.numpy() if rotate else None,
    )


def _start(table: torch.Tensor, subspaces: int, codes: int, seed: int) -> torch.Tensor:
    # k-means++ on a sample: far points first, so that rare directions have a code of their own.
    generator = torch.Generator().manual_seed(seed)
    books = []
    for piece in table.chunk(subspaces, dim=1):
        some = piece[torch.randperm(len(piece), generator=generator)[: max(4096, 4 * codes)]]
        chosen = [some[0]]
        nearest = (some - chosen[0]).square().sum(dim=1)
        for _ in range(codes - 1):
            chance = nearest + 1e-12
            place = int(torch.multinomial(chance / chance.sum(), 1, generator=generator))
            chosen.append(some[place])
            nearest = torch.minimum(nearest, (some - some[place]).square().sum(dim=1))
        books.append(torch.stack(chosen))
    return torch.stack(books)


def _turn(
    table: torch.Tensor, weights: torch.Tensor, books: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass of Lloyd's in every subspace: new centroids, and the codes that go with them."""
    subspaces, codes, width = books.shape
    found, far = nearest_codes(table, books)
    new = books.clone()
    for m, piece in enumerate(table.chunk(subspaces, dim=1)):
        sums = torch.zeros(codes, width).index_add_(0, found[:, m], piece * weights[:, None])
        mass = torch.zeros(codes).index_add_(0, found[:, m], weights)
        full = mass > 0
        new[m, full] = sums[full] / mass[full, None]
        empty = torch.nonzero(~full).flatten()
        if len(empty):  # a code that nobody uses goes to whoever is served worst
            worst = torch.topk(far[:, m], min(len(empty), len(table))).indices
            new[m, empty[: len(worst)]] = piece[worst]
    return new, nearest_codes(table, new)[0]


def nearest_codes(table: torch.Tensor, books: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest centroid of each piece ``[N, M]`` (int64), and its squared distance."""
    found, far = [], []
    for m, piece in enumerate(table.chunk(len(books), dim=1)):
        size_K = books[m].square().sum(dim=1)
        codes, least = [], []
        for some in piece.split(_ROWS_AT_ONCE):
            distance = size_K - 2 * (some @ books[m].T)
            best = distance.min(dim=1)
            codes.append(best.indices)
            least.append(best.values + some.square().sum(dim=1))
        found.append(torch.cat(codes))
        far.append(torch.cat(least))
    return torch.stack(found, dim=1), torch.stack(far, dim=1)


def _read(books: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    return books[torch.arange(len(books)), found].flatten(1)
