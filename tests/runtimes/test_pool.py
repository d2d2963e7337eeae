"""Many nodes as one: where a model runs, and what is said when it can't."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bedside.core.chat import ModelInfo
from bedside.core.errors import BedsideError
from bedside.models.catalogue import built_in
from bedside.runtimes.fake import FakeRuntime
from bedside.runtimes.openmp import with_openmp
from bedside.runtimes.pool import Pool
from bedside.site import missing_model

pytestmark = pytest.mark.anyio


@dataclass
class Moody(FakeRuntime):
    """A node that can be made silent."""

    silent: bool = False

    async def models(self) -> Sequence[ModelInfo]:
        if self.silent:
            raise BedsideError("NODE_UNREACHABLE", node=self.name)
        return await super().models()


def pool(*nodes: FakeRuntime, poll: float = 60) -> Pool:
    return Pool(nodes, lambda name, here: missing_model(built_in(), name, here), poll)


async def test_the_first_node_that_has_the_model_runs_it() -> None:
    nodes = pool(Moody(name="a", model_names=("x",)), Moody(name="b", model_names=("x", "y")))
    await nodes.start()
    assert (await nodes.locate("x")).runtime.name == "a"
    assert (await nodes.locate("y")).runtime.name == "b"
    assert [placed.info.name for placed in nodes.placed()] == ["x", "y"]
    assert await nodes.loaded() == [("a", "x"), ("b", "x"), ("b", "y")]
    await nodes.stop()


async def test_a_name_without_a_tag_means_the_latest() -> None:
    nodes = pool(Moody(model_names=("mistral:latest",)))
    await nodes.start()
    assert (await nodes.locate("mistral")).info.name == "mistral:latest"
    await nodes.stop()


async def test_a_model_that_came_after_the_last_poll_is_found() -> None:
    node = Moody(model_names=("x",))
    nodes = pool(node)
    await nodes.start()
    node.model_names = ("x", "new:1b")
    assert (await nodes.locate("new:1b")).info.name == "new:1b"
    await nodes.stop()


async def test_a_node_that_went_silent_is_named_until_it_is_back() -> None:
    node, other = Moody(name="a", model_names=("x",)), Moody(name="b", model_names=("y",))
    nodes = pool(node, other)
    await nodes.start()
    node.silent = True
    await nodes.refresh()
    with pytest.raises(BedsideError, match="The node a") as caught:
        await nodes.locate("x")
    assert caught.value.code == "NODE_UNREACHABLE"
    assert (await nodes.locate("y")).runtime is other
    node.silent = False
    await nodes.refresh()
    assert (await nodes.locate("x")).runtime is node
    await nodes.stop()


async def test_listings_are_polled_in_the_background() -> None:
    node = Moody(model_names=("x",))
    nodes = pool(node, poll=0.01)
    await nodes.start()
    node.model_names = ("x", "z")
    while len(nodes.placed()) < 2:
        await asyncio.sleep(0.01)
    assert [placed.info.name for placed in nodes.placed()] == ["x", "z"]
    await nodes.stop()


@pytest.mark.parametrize(("name", "code"), [("mistrall:7b", "MODEL_UNKNOWN"), ("mistral:7b", "MODEL_NOT_INSTALLED")])
async def test_a_model_that_no_node_has_is_explained(name: str, code: str) -> None:
    nodes = pool(Moody(model_names=("x",)))
    await nodes.start()
    with pytest.raises(BedsideError, match="mistral:7b") as caught:
        await nodes.locate(name)
    assert caught.value.code == code
    await nodes.stop()


def test_an_engines_threads_sleep_while_they_wait_unless_the_operator_says_otherwise() -> None:
    assert with_openmp({"PATH": "/bin"})["OMP_WAIT_POLICY"] == "passive"
    assert with_openmp({"OMP_WAIT_POLICY": "active"})["OMP_WAIT_POLICY"] == "active"


def test_the_packaged_openmp_is_where_it_is_looked_for_on_linux() -> None:
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [path for path in files("cmeel-libomp") or () if path.name == "libgomp.so.1"]
    except PackageNotFoundError:
        import sys

        assert sys.platform != "linux"
        return
    assert Path(found[0].locate()).is_file()
