"""Both ways of building a store, on a disk and on an object store, keep the promises of `tomostream.testing.StoreBuildTests`."""

import pytest

from tomostream.testing import StoreBuildTests


class TestLocalBuild(StoreBuildTests):
    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "stores"


@pytest.mark.slow
class TestObjectBuild(StoreBuildTests):
    @pytest.fixture
    def folder(self, bucket):
        return bucket
