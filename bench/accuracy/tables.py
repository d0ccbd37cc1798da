"""Print the results as Markdown tables: F1 (precision / recall) per tomogram and pooled over the test tomograms, median over the seeds."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.accuracy.systems import SYSTEMS, TESTED

CROSSED_CLICKS = 10
Key = tuple[str, str, int, str]  # domain, species, clicks, system


def pooled(tomograms: dict[str, dict[str, float]], domain: str) -> dict[str, float]:
    """Return precision, recall and F1 over the test tomograms."""
    parts = [tomograms[f"{domain}_{number}"] for number in TESTED if f"{domain}_{number}" in tomograms]
    tp, fp, fn = (sum(part[key] for part in parts) for key in ("tp", "fp", "fn"))
    return {
        "precision": tp / max(tp + fp, 1),
        "recall": tp / max(tp + fn, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
    }


def load(results: Path) -> dict[Key, list[dict[str, Any]]]:
    """Read the results, grouped by everything except the seed; a run of two species counts as one of each."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(results.glob("*.json")):
        record = _record(path)
        about = record["experiment"]
        kinds = ["ribosome", "fas"] if about["species"] == "both" else [about["species"]]
        for kind in kinds:
            row: dict[str, Any] = {"seconds": record["seconds"], "seed": about["seed"]}
            for count in ("at_true_count", "at_chosen_count"):
                evaluation = record[count]
                if evaluation is not None:
                    own = evaluation["species"][kind] if "species" in evaluation else evaluation
                    row[count] = own["tomograms"]
            label = f"{kind} (with the other)" if about["species"] == "both" else kind
            found[about["domain"], label, about["clicks"], about["system"]].append(row)
    return found


def _record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise SystemExit(f"{path} is damaged ({error}); delete it, and its experiment is run again") from None
    return record


def write_crossed(crossed: Path) -> None:
    """Print the table of models evaluated on the other domain."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in sorted(crossed.glob("*.json")):
        record = _record(path)
        about = record["experiment"]
        if about["species"] == "ribosome" and about["clicks"] == CROSSED_CLICKS:
            found[about["system"], about["domain"]].append(record["at_true_count"]["pooled"]["f1"])
    if not found:
        return
    print(f"\n### ribosome, {CROSSED_CLICKS} clicks, the other kind of data\n")
    print("| system | trained on DEF, tested on VPP_03 and 04 | trained on VPP, tested on DEF_03 and 04 |")
    print("|---|---|---|")
    for system in SYSTEMS:
        cells = [f"{median(found[system, domain]):.3f}" if (system, domain) in found else "" for domain in ("DEF", "VPP")]
        if any(cells):
            print(f"| {system} | {cells[0]} | {cells[1]} |")


def median(values: list[float]) -> float:
    """Return the median, rounded as in the tables."""
    return round(statistics.median(values), 3)


def write_tables(results: Path) -> None:
    """Print the tables."""
    found = load(results)
    groups = sorted({(domain, species, clicks) for domain, species, clicks, _ in found})
    for domain, species, clicks in groups:
        print(f"\n### {species}, {domain}, {clicks} clicks\n")
        print("| system | 01 | 02 | 03 | 04 | 03+04 F1 | precision | recall | count chosen: F1 | seeds | training, CPU s |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for system in SYSTEMS:
            rows = found.get((domain, species, clicks, system))
            if rows:
                print(_row(system, rows, domain))


def _row(system: str, rows: list[dict[str, Any]], domain: str) -> str:
    single = [median([row["at_true_count"][f"{domain}_{n}"]["f1"] for row in rows]) for n in ("01", "02", "03", "04")]
    over = [pooled(row["at_true_count"], domain) for row in rows]
    f1 = [part["f1"] for part in over]
    spread = f" ({min(f1):.3f}-{max(f1):.3f})" if len(rows) > 1 else ""
    chosen = [pooled(row["at_chosen_count"], domain)["f1"] for row in rows if "at_chosen_count" in row]
    cells = [
        system,
        *(f"{value:.3f}" for value in single),
        f"**{median(f1):.3f}**{spread}",
        f"{median([part['precision'] for part in over]):.3f}",
        f"{median([part['recall'] for part in over]):.3f}",
        f"{median(chosen):.3f}" if chosen else "",
        str(len(rows)),
        f"{statistics.median(row['seconds']['train_cpu'] for row in rows):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"
