"""Figures of the house, to compare two states: python tests/support/house_figures.py [FOLDER OF THE PACKAGE].

Imports in functions and under `TYPE_CHECKING` count.  tests/test_architecture.py and tests/test_sizes.py hold this state to its rules.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from house import PACKAGE, Function, House, lines, parameters
from house_rules import ABOVE_THE_RESOLVED_RUN, FLOORS, MANY_PARAMETERS, OPEN_VALUES, room_of, strategies_named, upward_imports


def main(root: Path) -> None:
    """Print the figures."""
    house = House(root)
    sizes = {name: len(text.splitlines()) for name, text in house.texts.items()}
    lengths = sizes_of(house, lines)
    widths = {name: width for name, width in sizes_of(house, parameters).items() if not name.startswith(("cli", "api"))}
    without_floor = sorted({room_of(name) for name in house.trees} - FLOORS.keys())
    print("modules", len(sizes), "lines", sum(sizes.values()))
    print("modules in circles", len(house.circles()))
    print("upward imports", f"unknown: no floor for {', '.join(without_floor)}" if without_floor else len(upward_imports(house)))
    print("longest function", *largest(lengths))
    print("most parameters below API and command line", *largest({name: n for name, n in widths.items() if name not in MANY_PARAMETERS}))
    for name, reason in MANY_PARAMETERS.items():
        print(f"  besides {name} {widths.get(name)}: {reason}")
    print("largest module", *largest(sizes))
    print("places that know a strategy by name outside its folder", len(strategies_named(house)))
    print("functions below the resolved run that take a Configuration", len(house.takers_of_a_configuration(*ABOVE_THE_RESOLVED_RUN)))
    print("dict[str, Any]", sum(house.open_values().values()))
    reasons = Counter[str]()
    for name, count in house.open_values().items():
        reasons[OPEN_VALUES.get(name, "no reason is given")] += count
    for reason, count in reasons.most_common():
        print(f"  {count} {reason}")


def sizes_of(house: House, size: Callable[[Function], int]) -> dict[str, int]:
    """The size of each function; of several with one name the largest."""
    found: dict[str, int] = {}
    for name, function in house.functions():
        key = f"{name}.{function.name}"
        found[key] = max(size(function), found.get(key, 0))
    return found


def largest(sizes: dict[str, int]) -> tuple[str, int]:
    """The entry with the largest value."""
    return max(sizes.items(), key=lambda pair: pair[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
