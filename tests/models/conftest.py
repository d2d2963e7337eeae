"""A store of its own for every test, no proxy of the machine, and a package index that is a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.web import Site, serving

from bedside.models.store import ModelStore


@pytest.fixture(autouse=True)
def _no_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shelf: Path) -> None:
    if request.node.get_closest_marker("model"):
        return  # a real model comes from wherever this machine gets its packages
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that pip takes for its package index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as served:
        yield served
