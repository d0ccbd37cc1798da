"""What copick does and sees, run by copick's own Python: `speaking.py write FOLDER` makes a project, `speaking.py read PROJECT.json` prints one."""

import json
import sys
from pathlib import Path

import copick
import numpy as np

ANGLES = [(10.0, 20.0, 30.0), (100.0, 75.0, -40.0), (-170.0, 160.0, 5.0)]


def write(folder: Path) -> None:
    """A project of one run: a tomogram of each of two types, and the picks of two users."""
    from scipy.spatial.transform import Rotation

    objects = [{"name": "ribosome", "is_particle": True, "label": 1, "radius": 60}]
    roots = {"overlay_root": f"local://{folder}/overlay", "overlay_fs_args": {"auto_mkdir": True}}
    config = {"config_type": "filesystem", "name": "a test", "version": "0.5.0", "pickable_objects": objects, **roots}
    (folder / "project.json").write_text(json.dumps(config))
    root = copick.from_file(str(folder / "project.json"))
    turned = np.tile(np.eye(4), (3, 1, 1))
    turned[:, :3, :3] = Rotation.from_euler("ZYZ", ANGLES, degrees=True).inv().as_matrix()
    turned[2, :3, 3] = (5, -5, 10)
    for number, run_name in enumerate(("TS_01", "TS_02")):
        run = root.new_run(run_name)
        spacing = run.new_voxel_spacing(10.0)
        for kind in ("wbp", "denoised"):
            spacing.new_tomogram(kind).from_numpy(np.load(folder / f"{run_name}.npy"), levels=1)
        for user in ("alice", "bob"):
            picks = run.new_picks("ribosome", session_id="1", user_id=user)
            picks.from_numpy(np.load(folder / f"{run_name}_points.npy") + number, transforms=turned, scores=np.array([0.5, 0.25, 1.0]))


def read(file: str) -> None:
    """Everything of a project, as JSON."""
    found = []
    for run in copick.from_file(file).runs:
        for picks in run.picks:
            points, transforms = picks.numpy()
            found.append(
                {
                    "run": run.name,
                    "object": picks.pickable_object_name,
                    "user": picks.user_id,
                    "points": points.tolist(),
                    "transforms": transforms.tolist(),
                    "scores": [point.score for point in picks.points],
                }
            )
        for spacing in run.voxel_spacings:
            for tomogram in spacing.tomograms:
                voxels = tomogram.numpy()
                found.append(
                    {
                        "run": run.name,
                        "tomogram": tomogram.tomo_type,
                        "spacing": spacing.voxel_size,
                        "shape": voxels.shape,
                        "sum": float(voxels.sum()),
                    }
                )
    print(json.dumps(found))


if __name__ == "__main__":
    write(Path(sys.argv[2])) if sys.argv[1] == "write" else read(sys.argv[2])
