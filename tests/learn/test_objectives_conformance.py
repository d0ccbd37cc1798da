"""Every objective of ours keeps the promises of `tomostream.testing.ObjectiveTests`."""

from tomostream.learn.objectives import OBJECTIVES
from tomostream.testing import ObjectiveTests


class TestGeBinomial(ObjectiveTests):
    kind = OBJECTIVES["ge_binomial"]


class TestKl(ObjectiveTests):
    kind = OBJECTIVES["kl"]


class TestKlFromThePrior(ObjectiveTests):
    """The other order of the divergence."""

    kind = OBJECTIVES["kl"]
    settings = {"order": "pu_to_prior"}


class TestNnpu(ObjectiveTests):
    kind = OBJECTIVES["nnpu"]


class TestPn(ObjectiveTests):
    kind = OBJECTIVES["pn"]


def test_every_objective_of_ours_is_tested_here():
    tested = {
        kind.kind.name
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, ObjectiveTests) and hasattr(kind, "kind")
    }
    assert tested == set(OBJECTIVES)
