"""How much do twenty answers in the gallery improve a model trained on ten clicks?  The truth simulates the person, on the workbench's server.

    python bench/view_rounds.py DATA/pombe_sim --train VPP_01 --others VPP_02 VPP_03 VPP_04 [--answers 20] [--minutes 2]

1. Start the server on the MRC files, fill in the form, click the ten clicks of the data set, and `Train and pick`.
2. `Suggest` candidates; keep each that has a true particle within the tolerance, reject the others, and `Train again`.
3. Print F1 of the picks per tomogram and pooled, before and after.

A person is assumed to need 3 s for a click and 1.5 s for an answer.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests" / "support")]

import numpy as np  # noqa: E402 (after the path)
from running_view import Running, started  # noqa: E402 (likewise)

import tomostream as ts  # noqa: E402 (likewise)

TOLERANCE_VOX = 10.0
SECONDS_A_CLICK, SECONDS_AN_ANSWER = 3.0, 1.5


def ask(server: Running, path: str, value: Any = None) -> Any:
    data = None if value is None else json.dumps(value).encode()
    headers = {"Cookie": f"tomostream_{server.port}={server.token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data=data, headers=headers)) as answer:
        return json.loads(answer.read())


def work(server: Running, **job: Any) -> float:
    """Start a job and wait for it; return its seconds."""
    ask(server, "/api/start", job)
    while True:
        time.sleep(1)
        [found] = [one for one in ask(server, "/api/state")["jobs"] if one["kind"] == job["kind"]]
        if found["state"] != "running":
            if found["state"] != "done":
                raise SystemExit("\n".join(found["lines"]))
            return float(found["seconds"])


def scores(project: Path, truth: Path, stores: list[Path]) -> dict[str, float]:
    found = ts.evaluate(project / "picks", truth, tolerance=f"{TOLERANCE_VOX:g}vox", species=["ribosome"], tomograms=stores).to_json()
    return {name: round(values["f1"], 3) for name, values in [*found["tomograms"].items(), ("pooled", found["pooled"])]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", default="VPP_01")
    parser.add_argument("--others", nargs="+", default=["VPP_02", "VPP_03", "VPP_04"])
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    names = [options.train, *options.others]
    truth = options.data / "truth.csv"
    with truth.open(newline="") as file:
        true = [row for row in csv.DictReader(file) if row["species"] == "ribosome"]
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        with started(*(options.data / f"{name}.mrc" for name in names), "-o", project, cwd=Path(folder)) as server:
            work(server, kind="convert")
            minutes = {} if options.minutes is None else {"minutes": options.minutes}
            ask(server, "/api/setup", {"species": [{"name": "ribosome", "radius": "135A", "expected": 180}], **minutes})
            spacing = ask(server, f"/api/tomogram?name={options.train}")["spacing"]
            with (options.data / f"clicks_{options.train}_train_10.csv").open(newline="") as file:
                rows = [
                    {
                        "tomogram": row["tomogram"],
                        "species": "ribosome",
                        "label": 1,
                        **{a: float(row[f"{a}_voxel"]) * spacing for a in "xyz"},
                    }
                    for row in csv.DictReader(file)
                ]
            ask(server, "/api/clicks", {"add": rows})
            first = work(server, kind="run")
            stores = sorted((project / "tomograms").glob("*.ome.zarr"))
            print(
                f"after {len(rows)} clicks ({len(rows) * SECONDS_A_CLICK:.0f} s of a person, {first:.0f} s of the machine):",
                scores(project, truth, stores),
            )
            work(server, kind="suggest", count=options.answers)
            answers = []
            for place in ask(server, "/api/suggested")["places"]:
                near = [[float(row[f"{a}_voxel"]) for a in "xyz"] for row in true if row["tomogram"] == place["tomogram"]]
                here = np.array([place[a] / spacing for a in "xyz"])
                is_true = bool(np.min(np.linalg.norm(np.array(near) - here, axis=1)) <= TOLERANCE_VOX / 2)
                answers.append({key: place[key] for key in ("tomogram", "species", "x", "y", "z")} | {"label": int(is_true)})
            ask(server, "/api/clicks", {"add": answers})
            second = work(server, kind="run")
            kept = sum(one["label"] for one in answers)
            seconds = len(answers) * SECONDS_AN_ANSWER
            print(
                f"after {len(answers)} answers, {kept} kept ({seconds:.0f} s of a person, {second:.0f} s of the machine):",
                scores(project, truth, stores),
            )


if __name__ == "__main__":
    main()
