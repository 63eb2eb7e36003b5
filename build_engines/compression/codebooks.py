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
from pathlib import Path
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
        turn_DD: what decoded rows are multiplied by; None: nothing.
        length: of all rows, to which decoded ones are brought back; None: their lengths differ.
    """

    codes_NM: npt.NDArray[np.uint8]
    codebook_MKW: Floats
    turn_DD: Floats | None
    length: float | None

    def rows(self) -> Floats:
        """What is left of the rows."""
        return decoded_rows(self.codes_NM, self.codebook_MKW, self.turn_DD, self.length)

    @property
    def stored_bytes(self) -> int:
        """Codes, codebook and what rows are multiplied by, the floats in half precision."""
        turn = 0 if self.turn_DD is None else self.turn_DD.size
        return self.codes_NM.nbytes + 2 * (self.codebook_MKW.size + turn)


def product_codes(
    table_ND: Floats,
    *,
    subspaces: int,
    codes: int,
    rotate: bool = True,
    rounds: int = 12,
    seed: int = 0,
    metric_DD: npt.NDArray[np.floating[Any]] | None = None,
) -> ProductCodes:
    """Code the rows of a table.

    Args:
        table_ND: rows; a first row of zeros is padding.
        subspaces: M, a divisor of D: bytes of a coded row.
        codes: K, 2..256 and below N.
        rotate: learn a rotation that spreads what is hard to code over the pieces (OPQ).
        rounds: of k-means; with a rotation as many turns of k-means and rotation first.
        seed: of the start.
        metric_DD: how much an error matters by its direction, ``(w - w') metric (w - w').T`` is made small: the second
            moment of the queries that rows are multiplied with, plus a share of the identity. None: all directions alike.

    Raises:
        CodebookRefused: M does not divide D, or see ``check_size``.
    """
    rows, dim = table_ND.shape
    if subspaces < 1 or dim % subspaces:
        fits = [m for m in range(1, dim + 1) if dim % m == 0]
        raise CodebookRefused(f"{subspaces} subspaces: must divide the width {dim}; use one of {fits}")
    check_size(codes, rows, f"product codes of {rows} rows")
    length = _length(table_ND)
    # In coordinates in which all directions matter alike, and back by the inverse.
    root_DD = np.eye(dim) if metric_DD is None else np.linalg.cholesky(np.asarray(metric_DD, np.float64))
    table = torch.from_numpy(np.ascontiguousarray(table_ND @ root_DD, np.float32))
    rotation = _balanced(table, subspaces) if rotate else torch.eye(dim)
    turned = table @ rotation.T
    books, found = _start(turned, subspaces, codes, seed), torch.empty(0)
    if rotate:
        for _ in range(rounds):
            books, found = _turn(turned, books)
            # min |T R' - Y|: R' from the singular vectors of T' Y (orthogonal Procrustes).
            left, _, right = torch.linalg.svd(table.T @ _read(books, found))
            rotation = (left @ right).T.contiguous()
            turned = table @ rotation.T
    for _ in range(rounds):
        books, found = _turn(turned, books)
    turn_DD = (rotation.double().numpy() @ np.linalg.inv(root_DD)).astype(np.float32)
    return ProductCodes(
        codes_NM=found.numpy().astype(np.uint8),
        codebook_MKW=books.numpy(),
        turn_DD=turn_DD if rotate or metric_DD is not None else None,
        length=length,
    )


def save_codes(path: Path, codes: ProductCodes) -> None:
    """Write an ``.npz``."""
    optional = {
        "turn_DD": codes.turn_DD,
        "length": None if codes.length is None else np.float64(codes.length),
    }
    arrays = {name: value for name, value in optional.items() if value is not None}
    np.savez(path, codes_NM=codes.codes_NM, codebook_MKW=codes.codebook_MKW, **arrays)  # type: ignore[arg-type]  # **kwds for allow_pickle


def read_codes(path: Path) -> ProductCodes:
    """Read what ``save_codes`` wrote."""
    with np.load(path) as stored:
        return ProductCodes(
            codes_NM=stored["codes_NM"],
            codebook_MKW=stored["codebook_MKW"],
            turn_DD=stored.get("turn_DD"),
            length=float(stored["length"]) if "length" in stored else None,
        )


def query_metric(queries_BD: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Their second moment with as much of the identity: directions that no query here has may matter to the next one.

    Without the identity
    the others are coded at random: on Amazon Beauty 32 codes lost 2.7 % of NDCG with a tenth of it and 0.7 % with as much.
    """
    queries = np.asarray(queries_BD, np.float64)
    moment_DD = queries.T @ queries / max(1, len(queries))
    size = float(np.trace(moment_DD)) / len(moment_DD)
    moment: npt.NDArray[np.float64] = moment_DD / max(size, 1e-30) + np.eye(len(moment_DD))
    return moment


def _length(table_ND: Floats) -> float | None:
    lengths_N = np.linalg.norm(table_ND, axis=1)
    lengths_N = lengths_N[lengths_N > 0]
    if not lengths_N.size or np.ptp(lengths_N) > 1e-3 * float(lengths_N.mean()):
        return None
    return float(lengths_N.mean())


def _balanced(table: torch.Tensor, subspaces: int) -> torch.Tensor:
    # Principal directions dealt out so that all pieces have about the same product of variances: the optimum for normally
    # distributed rows (Ge et al., section 3.2), and the start for the others.
    dim = table.shape[1]
    variances, directions = torch.linalg.eigh(table.T.double() @ table.double())
    logs = variances.clamp_min(1e-12 * float(variances.max())).log().flip(0).tolist()
    groups: list[list[int]] = [[] for _ in range(subspaces)]
    sums = [0.0] * subspaces
    floor = min(logs)
    for place, log in enumerate(logs):
        free = [m for m in range(subspaces) if len(groups[m]) < dim // subspaces]
        chosen = min(free, key=lambda m: (sums[m], m))
        groups[chosen].append(place)
        sums[chosen] += log - floor
    order = [place for group in groups for place in group]
    dealt: torch.Tensor = directions.flip(1)[:, order].T.float().contiguous()
    return dealt


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


def _turn(table: torch.Tensor, books: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass of Lloyd's in every subspace: new centroids, and the codes that go with them."""
    subspaces, codes, width = books.shape
    found, far = nearest_codes(table, books)
    new = books.clone()
    for m, piece in enumerate(table.chunk(subspaces, dim=1)):
        sums = torch.zeros(codes, width).index_add_(0, found[:, m], piece)
        mass = torch.bincount(found[:, m], minlength=codes)
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
        for some in torch.split(piece, _ROWS_AT_ONCE):
            distance = size_K - 2 * (some @ books[m].T)
            best = distance.min(dim=1)
            codes.append(best.indices)
            least.append(best.values + some.square().sum(dim=1))
        found.append(torch.cat(codes))
        far.append(torch.cat(least))
    return torch.stack(found, dim=1), torch.stack(far, dim=1)


def _read(books: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    return books[torch.arange(len(books)), found].flatten(1)
