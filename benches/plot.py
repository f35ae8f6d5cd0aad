#!/usr/bin/env python3
"""Draws what `cargo bench --bench fanout -- --json FILE` measured: benches/plot.py FILE"""
import json
import sys
from html import escape
from pathlib import Path

SERVERS = {
    "ours": ("this crate", "#3b82f6"),
    "ours:tick0": ("this crate, tick 0", "#93c5fd"),
    "naive": ("axum and a broadcast channel", "#f59e0b"),
}
PLOTS = {
    "cpu": ("cpu", "CPU seconds per million deliveries", "{:.2f}"),
    "p99": ("p99", "99th percentile from set to arrival, ms", "{:.1f}"),
}
WIDTH, LEFT, RIGHT, BAR, GAP = 760, 220, 70, 16, 18
INK = "#6b7280"  # Readable on white and on black.


def text(x, y, content, anchor="start", size=13):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(content)}</text>'


def draw(rows, field, title, form):
    works = {}
    for row in rows:
        if row["server"] in SERVERS and row[field] is not None and "saturated" not in row["work"] and "sit" not in row["work"]:
            works.setdefault(row["work"], []).append(row)
    top = max(row[field] for group in works.values() for row in group)
    parts, y = [text(0, 16, title, size=15)], 34
    for name, colour in SERVERS.values():
        x = list(SERVERS.values()).index((name, colour)) * 250
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(x + 18, y, name))
    y += 22
    for work, group in works.items():
        parts.append(text(LEFT - 10, y + len(group) * BAR / 2 + 4, work, "end"))
        for row in group:
            length = (WIDTH - LEFT - RIGHT) * row[field] / top
            colour = SERVERS[row["server"]][1]
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR - 2}" fill="{colour}"/>')
            parts.append(text(LEFT + length + 6, y + 12, form.format(row[field]), size=12))
            y += BAR
        y += GAP
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" font-family="sans-serif" role="img"><title>{escape(title)}</title>'
    return svg + "".join(parts) + "</svg>\n"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(__file__).parent / "plots"
    for name, (field, title, form) in PLOTS.items():
        (folder / f"{name}.svg").write_text(draw(rows, field, title, form))


main()
