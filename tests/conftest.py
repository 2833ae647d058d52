"""Shared fixtures: where the public catalogues are, and precision."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder of public catalogues (see README, Tests); skips where it is absent."""
    folder = Path(os.environ.get("MASSMAP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"public catalogues not found at {folder}; set MASSMAP_TEST_DATA")
    return folder
