"""The tables of product copy."""

from __future__ import annotations

from typing import Any

from bench.tables import number, table

Json = dict[str, Any]
_OTHERS = ("planted", "true", "perplexity")
_EFFORTS = ("first_try", "regenerated", "edited", "template")


def copy_tables(results: Json) -> str:
    """All of them."""
    planted, true = results["planted"], results["true"]
    parts = [
        f"### Product copy: {planted['records']} records with one planted falsehood each, by a writer that repeats it; "
        f"released: **{planted['released']}**",
        table(
            ["falsehood", "records", "released", *_EFFORTS],
            [
                [kind, *(str(row.get(name, 0)) for name in ("records", "released", *_EFFORTS))]
                for kind, row in sorted(planted["kinds"].items())
            ],
        ),
        "### Product copy: the same records without it; what is refused here is refused wrongly",
        table(
            ["language", "records", "claims kept", "refused", *_EFFORTS],
            [
                [
                    language,
                    *(str(row.get(name, 0)) for name in ("records", "claims", "refused", *_EFFORTS)),
                ]
                for language, row in sorted(true["languages"].items())
            ],
        ),
    ]
    written = {name: run for name, run in results.items() if name not in _OTHERS}
    head = ["written by", "language", "texts", *_EFFORTS, "claims", "refused", "false released"]
    head += ["over the limits", "distinct-2", "s a text"]
    rows = [
        [
            name,
            language,
            str(one["texts"]),
            *(f"{100 * one['shares'][effort]:.1f} %" for effort in _EFFORTS),
            *(str(one[count]) for count in ("claims", "refused", "false released", "over the limits")),
            number(one["distinct-2"], 3),
            number(one["seconds a text"], 3),
        ]
        for name, run in written.items()
        for language, one in run.items()
    ]
    parts += ["### Product copy of the sample shop, all channels", table(head, rows)]
    return "\n\n".join([*parts, *_perplexity(results.get("perplexity") or {})])


def _perplexity(held_out: Json) -> list[str]:
    if not held_out:
        return []
    head = ["language", "pairs", "tokens", "perplexity", "next token right"]
    rows = [
        [
            language,
            str(row["pairs"]),
            str(row["tokens"]),
            number(row["perplexity"], 3),
            f"{100 * row['greedy right']:.1f} %",
        ]
        for language, row in held_out["languages"].items()
    ]
    return [
        f"### Copy of another shop, as {held_out['model']} version {held_out['version']} reads it",
        table(head, rows),
    ]
