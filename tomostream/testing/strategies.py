"""Tests that every strategy must pass: the properties that all stages rely on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.catalogue import STRATEGIES, installed
from tomostream.config import Configuration, configuration_from, load_configuration
from tomostream.config.fields import Part
from tomostream.errors import BudgetError, ExistsError
from tomostream.geometry import Box, triple
from tomostream.inference.region_scoring import score_volume
from tomostream.learn.training_files import METRICS_NAME
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.remote import atomic_files
from tomostream.stages.shared.resolved_run import resolve
from tomostream.strategies.adaptive_statistics import adaptation_bytes
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.loading import load_model, plan_model
from tomostream.strategies.model_folder import WEIGHTS_NAME, read_record
from tomostream.strategies.protocol import Model, Strategy
from tomostream.testing.small_project import SHAPE, SPACING, make_project

_GENEROUS = 4 * 10**9  # bytes
_PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024'
_STEPS = {"steps": 4, "steps_per_epoch": 2, "crop": 32, "batch": 2, "precision": "float32"}


class StrategyTests:
    """Tests of a strategy.  Subclass it as `TestMine`, and set `name`.

    Attributes
    ----------
    name
        The strategy's name, as for `objective.name`.
    values
        Further keys of the configuration that the strategy needs, such as its own section.
    not_in_the_model
        Keys of its own sections, as `section.key`, that don't change the trained model.  All others must change the fingerprint.
    """

    name: ClassVar[str]
    values: ClassVar[dict[str, Any]] = {}
    not_in_the_model: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def project_values(cls, folder: Path) -> dict[str, Any]:
        """Return the keys of the configuration; override it if files must be made first."""
        del folder
        return {"objective": {"name": cls.name}, "train": _STEPS, **cls.values}

    @classmethod
    def _configuration(cls, folder: Path, **values: Any) -> Configuration:
        path = make_project(folder, **(cls.project_values(folder) | values))
        return load_configuration(path)

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Folder of a project whose model is trained."""
        folder = tmp_path_factory.mktemp(f"{cls.name}-conforms")
        run_project(cls._configuration(folder), stages=["convert", "stats", "train"], overwrite=False, progress=Progress())
        return folder

    @pytest.fixture
    def model(self, trained: Path) -> Model:
        """The trained model."""
        return load_model(trained / "project" / "model")

    # its entry point

    def test_it_is_installed_and_speaks_the_protocol(self) -> None:
        assert self.name in installed(STRATEGIES)
        strategy = strategy_named(self.name)
        assert isinstance(strategy, Strategy)
        assert strategy.name == self.name
        assert strategy.summary
        assert "\n" not in strategy.summary

    def test_being_asked_for_imports_no_torch(self) -> None:
        code = f"import sys; from tomostream.strategies.catalogued import strategy_named as s; s({self.name!r}); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0

    def test_its_sections_have_defaults_and_come_back_as_they_were(self, tmp_path: Path) -> None:
        for section in strategy_named(self.name).sections.values():
            assert section() == section.model_validate(section().model_dump(mode="json"))
        configuration = self._configuration(tmp_path)
        again = configuration_from(configuration.resolved(), "again")
        assert again.resolved() == configuration.resolved()

    def test_its_fingerprint_is_plain_and_changes_with_its_own_settings(self, tmp_path: Path) -> None:
        settings = self._configuration(tmp_path).learning
        strategy = strategy_named(self.name)
        found = strategy.fingerprint(settings)
        assert json.loads(json.dumps(found)) == found
        for key, section in settings.own.items():
            for field in type(section).model_fields:
                for other in _variants(section, field):
                    changed = strategy.fingerprint(replace(settings, own={**settings.own, key: other}))
                    has_effect = f"{key}.{field}" not in self.not_in_the_model
                    assert (changed != found) == has_effect, f"{key}.{field}: {getattr(section, field)} and {getattr(other, field)} " + (
                        "have one fingerprint, so a model of the one would be taken for the other" if has_effect else "differ"
                    )

    # training

    def test_it_leaves_a_whole_model_that_says_what_it_is(self, trained: Path, model: Model) -> None:
        strategy = strategy_named(self.name)
        record = read_record(trained / "project" / "model")
        assert record.strategy == model.kind == strategy.model_kind
        assert model.picker == strategy.picker
        assert model.settings.species == ("ribosome",)
        assert model.settings.level == strategy.reading_level(
            load_configuration(trained / "run.yaml").species, SPACING, load_configuration(trained / "run.yaml").network.level
        )
        if strategy.step_bytes(load_configuration(trained / "run.yaml").learning) is not None:
            assert (trained / "project" / "model" / METRICS_NAME).exists(), "a training of steps leaves one row per epoch"

    def test_the_same_training_gives_the_same_bytes(self, trained: Path, tmp_path: Path) -> None:
        train_model(self._configuration(tmp_path), out=None, overwrite=False, progress=Progress())
        ours, theirs = ((folder / "project" / "model" / WEIGHTS_NAME).read_bytes() for folder in (tmp_path, trained))
        assert ours == theirs

    def test_a_training_that_is_stopped_before_its_model_is_whole_ends_with_the_same_bytes(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class StoppedError(Exception):
            pass

        written = atomic_files.write_atomically

        def stopping(path: Path, content: bytes) -> None:
            if path.name == WEIGHTS_NAME:
                raise StoppedError
            written(path, content)

        configuration = self._configuration(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr("tomostream.strategies.model_folder.write_atomically", stopping)
            with pytest.raises(StoppedError):
                train_model(configuration, out=None, overwrite=False, progress=Progress())
        train_model(configuration, out=None, overwrite=False, progress=Progress())
        ours, theirs = ((folder / "project" / "model" / WEIGHTS_NAME).read_bytes() for folder in (tmp_path, trained))
        assert ours == theirs

    def test_a_finished_model_is_left_and_other_clicks_are_refused(self, trained: Path, tmp_path: Path) -> None:
        values = yaml.safe_load((trained / "run.yaml").read_text())
        before = (trained / "project" / "model" / WEIGHTS_NAME).stat().st_mtime_ns
        train_model(configuration_from(values, "same"), out=None, overwrite=False, progress=Progress())
        assert (trained / "project" / "model" / WEIGHTS_NAME).stat().st_mtime_ns == before
        fewer = (trained / "train.csv").read_text().splitlines()[:-1]
        (tmp_path / "fewer.csv").write_text("\n".join(fewer) + "\n")
        values["labels"]["train"] = [str(tmp_path / "fewer.csv")]
        other = configuration_from(values, "fewer")
        with pytest.raises(ExistsError):
            train_model(other, out=None, overwrite=False, progress=Progress())
        states = [plan_run(one, ["train"])[0].state for one in (load_configuration(trained / "run.yaml"), other)]
        assert states == ["done", "other settings"], "the dry run must tell whether the model is that of the run"

    def test_training_stays_within_what_was_projected(self, tmp_path: Path) -> None:
        configuration = self._configuration(tmp_path)
        step = next(step for step in plan_run(configuration, ["train"]) if step.stage == "train")
        code = (
            "import sys; from tomostream.cli.main import main\n"
            f"sys.argv = ['tomostream', 'train', {str(tmp_path / 'run.yaml')!r}]\ntry:\n    main()\nfinally:\n    print({_PEAK})"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=600)
        assert (tmp_path / "project" / "model" / WEIGHTS_NAME).exists(), done.stderr
        assert step.memory_bytes is not None
        # with small volumes the peak is mostly libraries, whose size the projection only estimates
        assert int(done.stdout.split()[-1]) <= max(step.memory_bytes, LIBRARIES_BYTES + TORCH_BYTES) + 250_000_000

    # prediction

    def test_scores_of_any_blocks_are_those_of_one_block(self, model: Model) -> None:
        volume = np.random.default_rng(0).normal(size=_level_shape(model)).astype(np.float32)
        scorer = model.scorer(device="cpu", precision="float32", threads=1)
        whole = score_volume(volume, self._plan(model, None), scorer, as_logits=True)
        assert np.isfinite(whole).all()
        for core in ((16, 16, 16), (40, 13, 29)):
            found = score_volume(volume, self._plan(model, core), scorer, as_logits=True)
            np.testing.assert_allclose(found, whole, atol=1e-4, rtol=0)

    def test_the_same_block_has_the_same_bits_again(self, model: Model) -> None:
        volume = np.random.default_rng(1).normal(size=_level_shape(model)).astype(np.float32)
        plan = self._plan(model, (32, 32, 32))
        first, second = (
            score_volume(volume, plan, model.scorer(device="cpu", precision="float32", threads=1), as_logits=True) for _ in range(2)
        )
        assert np.array_equal(first, second)

    def test_what_is_read_holds_what_is_needed(self, model: Model) -> None:
        shape = _level_shape(model)
        scorer = model.scorer(device="cpu", precision="float32", threads=1)
        for needed in (Box.whole(shape), Box((3, 5, 7), (9, 20, 21))):
            read = scorer.read_box(needed, shape)
            assert all(a <= b for a, b in zip(read.start, needed.start, strict=True))
            assert all(a >= b for a, b in zip(read.stop, needed.stop, strict=True))
            assert min(read.start) >= 0
            assert scorer.block_bytes(needed, shape) >= 4 * scorer.species * needed.size

    def test_a_budget_that_holds_nothing_is_refused_before_work(self, model: Model) -> None:
        with pytest.raises(BudgetError, match=r"memory budget is 1 MB"):
            plan_model(model, SHAPE, precision="float32", memory=10**6, block_size=None, name="a tomogram")

    def test_the_dry_run_plans_what_the_run_will_do(self, trained: Path, model: Model) -> None:
        run = resolve(load_configuration(trained / "run.yaml"), with_clicks=False)
        before = run.strategy.untrained(run.learning, SPACING)
        is_open = getattr(run.strategy, "sizes_are_learnt", False)
        blocks = (64, 64, 64) if is_open else None
        first, second = (
            plan_model(one, triple([250, 400, 400]), precision="float32", memory=_GENEROUS, block_size=blocks, name="a tomogram")
            for one in (before, model)
        )
        if is_open:  # training decides the sizes; they must not exceed the plan
            assert first.block_bytes >= second.block_bytes
            assert adaptation_bytes(before) >= adaptation_bytes(model)
        else:
            assert first == second
            assert adaptation_bytes(before) == adaptation_bytes(model)

    def _plan(self, model: Model, core: tuple[int, int, int] | None) -> Any:
        return plan_model(model, SHAPE, precision="float32", memory=_GENEROUS, block_size=core, name="a tomogram")


def _variants(section: Part, field: str) -> Iterator[Part]:
    """Copies of a section with another value of a field, made from its number, boolean or choice; none for what can't be varied."""
    value, kind = getattr(section, field), type(section).model_fields[field].annotation
    others: list[object] = []
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, int | float):
        others = [value + 1, value - 1, 1.1 * value, 0.9 * value]
    elif get_origin(kind) is Literal:
        others = list(get_args(kind))
    for other in others:
        with contextlib.suppress(ValidationError):  # out of the field's range
            changed = type(section).model_validate(section.model_dump() | {field: other})
            if changed != section:
                yield changed


def _level_shape(model: Model) -> tuple[int, int, int]:
    return triple([-(-n // 2**model.settings.level) for n in SHAPE])
