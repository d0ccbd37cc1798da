"""The trials of kills, faults and power losses: which are made, what they report, and what counts as well ended."""

import json
import random

import numpy as np
import pytest
from store_files import write_store

from bench.ground import COMMANDS, Ground, Outcome, forked, tree
from bench.trials import Asked, asked_by, leave, parser_of


def asked(**values):
    given = {"commands": ["pick", "init"], "kinds": ["full", "broken"], "seed": 0, "trials": 9, "seconds": float("inf"), "call": None}
    return Asked(**given | values)


def test_every_call_of_every_kind_is_made_once():
    made = list(asked(every=True).drawn(random.Random(0), lambda command, kind: len(command) - 3 + (kind == "full")))
    assert made == [
        ("pick", "full", 1), ("pick", "full", 2), ("pick", "broken", 1), ("init", "full", 1), ("init", "full", 2), ("init", "broken", 1),
    ]  # fmt: skip


def test_drawn_trials_take_turns_between_commands_and_skip_what_makes_no_calls():
    first, again = (list(asked().drawn(random.Random(3), lambda command, _: 0 if command == "init" else 7)) for _ in range(2))
    assert first == again
    assert len(first) == 5
    assert all(command == "pick" and 1 <= at <= 7 for command, _, at in first)
    assert {at for _, _, at in asked(call=4).drawn(random.Random(3), lambda *_: 7)} == {4}


def test_failures_are_kept_with_what_repeats_them_and_decide_the_exit_code(tmp_path, capsys):
    outcome = asked().make(Outcome(0), random.Random(0), lambda *_: 5, lambda command, *_: "it broke" if command == "init" else None)
    assert len(outcome.failures) == 4
    assert outcome.failures[0].keys() == {"command", "kind", "call", "problem"}
    assert sum(outcome.trials.values()) == 9
    for found, code in ((outcome, 1), (Outcome(0), 0)):
        with pytest.raises(SystemExit) as left:
            leave(found, tmp_path / "report.json")
        assert left.value.code == code
        assert json.loads((tmp_path / "report.json").read_text()) == found.to_json()


def test_a_command_line_asks_for_its_trials():
    parser = parser_of("", number="--losses", trials=7, kinds=("a", "b"), kinds_option="--models", left_out=("status",))
    found = asked_by(parser.parse_args(["--models", "b", "--call", "3", "--every"]))
    assert (found.kinds, found.trials, found.call, found.every) == (["b"], 7, 3, True)
    assert found.commands == [name for name in COMMANDS if name != "status"]
    assert asked_by(parser_of("", number="--kills", trials=7, kinds=("killed",)).parse_args([])).kinds == ["killed"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_init_may_find_after_a_signal_the_configuration_that_it_had_written_whole(tmp_path):
    ground, trial = object.__new__(Ground), tmp_path / "trial"  # without the data set that the other commands need
    write_store(trial / "base" / "tomograms" / "t1.ome.zarr", np.zeros((8, 8, 8), np.float32))
    ground.log, ground.expected = tmp_path / "log.txt", {}
    ground.log.write_text("")
    code, _ = forked(COMMANDS["init"], trial, ground.log)
    assert code == 0, ground.log.read_text()
    ground.expected["init"] = tree(trial)
    assert ground.rerun("init", trial, after_signal=True) is None
    assert "it ended with 2" in ground.rerun("init", trial)
    (trial / "out" / "first.yaml").write_text("project: half")
    assert ground.rerun("init", trial, after_signal=True) == "other files than undisturbed: out/first.yaml"
