"""The report of the benchmarks as Markdown."""

from statistics import median

from weightgen.reports.tables import markdown_table

COLUMNS = [
    *("what", "ours", "released procedure", "times as fast (aim)", "limit", "of the limit (aim)"),
    "what bounds it, and remarks",
]


def table_text(report):
    """One table for each stage."""
    facts, rows = report["machine"], report["rows"]
    clock = "seconds of the clock" if facts["device"] != "cpu" else "CPU time, with that of child processes"
    head = (
        "# How fast the stages are\n\n"
        f"`make bench` on {facts['cpu']} ({facts['capability']}), {facts['cores']} cores, {facts['threads']} thread, {facts['device']}; "
        f"torch {facts['torch']}, Python {facts['python']}. A product of 1024 x 1024 matrices reached {facts['gflops']} "
        f"GFLOP/s in this run, and a copy {facts['gigabytes_per_second']} GB/s, read and write counted.\n\n"
        f"All times are {clock}: medians of rounds in which ours, the released procedure and the limit took turns; in brackets the least "
        "and the most. The released procedure is rebuilt from its description in `tests/benchmarks/released.py`. The limit is what "
        "the arithmetic and the memory of the stage need at the rates of this machine, or a run that is named in the remarks.\n\n"
        "Rows of a GPU: `make bench DEVICE=cuda` measures the same rows on one; none has been measured so far.\n"
    )
    parts = [head] if facts["device"] == "cpu" else [head.rpartition("Rows of")[0]]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        parts.append(f"\n## {stage.removeprefix('test_').replace('_', ' ').capitalize()}\n\n")
        parts.append(markdown_table(COLUMNS, [_cells(row) for row in rows if row["stage"] == stage]))
    return "".join(parts)


def _cells(row):
    faster, share = row["aims"]
    return [
        row["what"],
        _times(row["ours"]),
        _times(row.get("released")),
        _ratio(row.get("released_ratio"), faster, "≥ {:g}"),
        _times(row.get("limit")),
        _ratio(row.get("limit_ratio"), share, "≥ {:.0%}", percent=True),
        row["note"],
    ]


def _times(times):
    if not times:
        return "–"
    middle = median(times)
    unit, scale = ("s", 1) if middle >= 1 else ("ms", 1e3)
    shown = [f"{scale * value:.3g}" for value in (middle, min(times), max(times))]
    return f"{shown[0]} {unit} ({shown[1]} to {shown[2]})"


def _ratio(ratio, aim, form, percent=False):
    if not ratio:
        return "–"
    shown = [f"{value:.0%}" if percent else f"{value:.3g}" for value in ratio]
    wanted = f"; aim {form.format(aim)}" if aim is not None else ""
    return f"**{shown[0]}** ({shown[1]} to {shown[2]}{wanted})"
