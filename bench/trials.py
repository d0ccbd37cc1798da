"""What the trials of kills, faults and power losses share beside the ground: which trials are made, their loop, and their command line."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ground import COMMANDS, Outcome


@dataclass(frozen=True)
class Asked:
    """Which trials to make.

    Parameters
    ----------
    commands, kinds
        What is tried, and how it is disturbed.
    seed
        Seed of what is drawn.
    trials
        Number of trials.
    seconds
        Time after which no trial begins.
    call
        The call that is disturbed; None: drawn.
    every
        Whether every call of every kind is disturbed in turn, instead.
    """

    commands: Sequence[str]
    kinds: Sequence[str]
    seed: int
    trials: int
    seconds: float
    call: int | None
    every: bool = False

    def drawn(self, draw: random.Random, calls: Callable[[str, str], int]) -> Iterator[tuple[str, str, int]]:
        """Yield the command, kind and call of each trial; `calls` returns how many calls a command makes that a kind can disturb."""
        if self.every:
            for command, kind in itertools.product(self.commands, self.kinds):
                yield from ((command, kind, at) for at in range(1, calls(command, kind) + 1))
            return
        for number in range(self.trials):
            command, kind = self.commands[number % len(self.commands)], draw.choice(self.kinds)
            if most := calls(command, kind):
                yield command, kind, self.call or draw.randint(1, most)

    def make(
        self, outcome: Outcome, draw: random.Random, calls: Callable[[str, str], int], trial: Callable[[str, str, int], str | None]
    ) -> Outcome:
        """Make the trials: `trial` returns what went wrong, or None.  Failures are kept in the outcome, and printed as they come."""
        deadline = time.monotonic() + self.seconds
        for command, kind, at in self.drawn(draw, calls):
            if time.monotonic() > deadline:
                break
            problem = trial(command, kind, at)
            outcome.trials[f"{command}, {kind}"] += 1
            if problem is not None:
                outcome.failures.append({"command": command, "kind": kind, "call": at, "problem": problem})
                print(f"{command}, {kind} at call {at}: {problem}\n", file=sys.stderr, flush=True)
        return outcome


def parser_of(
    description: str | None, *, number: str, trials: int, kinds: Sequence[str], kinds_option: str = "--kinds", left_out: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Return a parser of the options that the trials share.

    Parameters
    ----------
    description
        The module's docstring.
    number, trials
        The option that gives the number of trials, and its default.
    kinds, kinds_option
        The kinds of disturbance, and the option that chooses among them; with one kind there is no such option.
    left_out
        Commands that are not tried.
    """
    commands = [name for name in COMMANDS if name not in left_out]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(number, type=int, default=trials, dest="trials")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=commands, default=commands, metavar="COMMAND")
    parser.add_argument("--call", type=int, help="the call that is disturbed (default: drawn)")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.set_defaults(kinds=list(kinds))
    if len(kinds) > 1:
        parser.add_argument(kinds_option, nargs="+", choices=kinds, dest="kinds")
        parser.add_argument("--every", action="store_true", help="every call of every kind, in turn")
    return parser


def asked_by(given: argparse.Namespace) -> Asked:
    """Return the trials that a command line asks for."""
    return Asked(given.only, given.kinds, given.seed, given.trials, given.seconds, given.call, getattr(given, "every", False))


def leave(outcome: Outcome, output: Path | None) -> None:
    """Print the outcome, write it to a file if one is given, and exit: 1 if there was a failure."""
    told = json.dumps(outcome.to_json(), indent=1)
    print(told)
    if output:
        output.write_text(told + "\n")
    sys.exit(1 if outcome.failures else 0)
