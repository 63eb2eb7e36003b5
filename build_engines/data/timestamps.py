"""Whatever a shop writes for time, as milliseconds since 1970 UTC.

The unit of a number is decided once per file, by its majority, and never per
row: a row that disagrees with its file is a bad row, because guessing for it would
put the event a thousand times too early without anybody noticing.

Units: results are integer milliseconds; texts without a zone are UTC.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

TimestampUnit = Literal["auto", "s", "ms", "us", "ns"]
PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
# Seconds below 1e11 reach the year 5138; milliseconds above it start in 1973; and so on.
AUTO_LIMITS = {"s": 1e11, "ms": 1e14, "us": 1e17}
LATEST_MS = 253_402_300_800_000  # the year 10000
TEXT_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M%#z",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d",
)


def to_milliseconds(values: pl.Series, unit: TimestampUnit = "auto") -> tuple[pl.Series, str]:
    """Milliseconds since 1970, null where a value is no time after 1970 and before the year 10000.

    Args:
        values: numbers, texts (numbers or ISO 8601) or polars times, E of them.
        unit: of the numbers; ``auto`` takes the unit that most values have by their size.

    Returns:
        Int64 series [E] and the unit found: one of ``s ms us ns``, ``text`` or ``time``.
    """
    if values.dtype.is_temporal():
        return _in_range(values.cast(pl.Datetime("ms")).cast(pl.Int64, strict=False)), "time"
    numbers = values.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None)
    if numbers.null_count() == len(numbers):
        return _in_range(_from_text(values)), "text"
    kinds = _units(numbers)
    found = unit if unit != "auto" else str(kinds.drop_nulls().mode().sort()[0])
    if unit == "auto":
        numbers = numbers.set((kinds != found).fill_null(True), None)
    from_numbers = _in_range((numbers / PER_MS[found]).floor().cast(pl.Int64, strict=False))
    texts = values.is_not_null() & kinds.is_null()
    if values.dtype == pl.String and texts.any():
        written = _in_range(_from_text(values.set(~texts, None)))
        return pl.select(pl.coalesce(from_numbers, written)).to_series(), found
    return from_numbers, found


def _units(numbers: pl.Series) -> pl.Series:
    value = pl.lit(numbers).abs()
    size = (
        pl.when(value < AUTO_LIMITS["s"]).then(pl.lit("s")).when(value < AUTO_LIMITS["ms"]).then(pl.lit("ms"))
    )
    unit = (
        size.when(value < AUTO_LIMITS["us"]).then(pl.lit("us")).when(value.is_not_null()).then(pl.lit("ns"))
    )
    return pl.select(unit).to_series()


def _from_text(values: pl.Series) -> pl.Series:
    text = pl.col("text")
    left = pl.DataFrame({"text": values.cast(pl.String)}).with_row_index("at").drop_nulls()
    left = left.with_columns(text.str.strip_chars().str.replace("[Tt]", " ").str.replace(" ?[Zz]$", ""))
    found = []
    for form in TEXT_FORMATS:
        zone = "UTC" if form.endswith("z") else None
        time = text.str.to_datetime(form, time_unit="ms", strict=False, exact=True, time_zone=zone)
        left = left.with_columns(time.dt.replace_time_zone(None).cast(pl.Int64).alias("ms"))
        found.append(left.drop_nulls("ms").select("at", "ms"))
        left = left.filter(pl.col("ms").is_null())
        if left.is_empty():
            break
    rows = pl.DataFrame({"at": pl.arange(len(values), eager=True, dtype=pl.UInt32)})
    return rows.join(pl.concat(found), on="at", how="left", maintain_order="left")["ms"]


def _in_range(milliseconds: pl.Series) -> pl.Series:
    return milliseconds.set(((milliseconds < 0) | (milliseconds >= LATEST_MS)).fill_null(False), None)
