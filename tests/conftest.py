import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines are busy, and how long an example takes says nothing. One that decides whether a change may land tries the same
# examples each time; elsewhere new ones are looked for.
settings.register_profile("ours", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "ours")


@pytest.fixture(scope="session")
def survey_data() -> Path:
    """Real survey files; the folder is named by SURVEY_SCAN_DATA."""
    folder = os.environ.get("SURVEY_SCAN_DATA")
    if not folder:
        pytest.skip("real survey files: set SURVEY_SCAN_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def networks_folder(tmp_path_factory: pytest.TempPathFactory):
    """Keras files by name, each made when first asked for."""
    from networks import Networks

    return Networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def scheduler():
    """Address of a Dask scheduler with two workers, for all scans of these tests."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", preload=["survey_scan.cluster.worker"]
    ) as cluster:
        yield cluster.scheduler_address
