"""The small real models that tests use: their files, fetched once and kept in the shared model folder."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bedside.core.chat import ModelInfo
from bedside.models.store import ModelStore
from bedside.runtimes.embedded import EngineModel

SMALLEST = "smollm2:135m"
DIGESTS = {
    SMALLEST: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "qwen2.5-coder:0.5b": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
}


def starter(name: str = SMALLEST) -> Path:
    """The model's file. One that is not installed yet is pulled as a user would pull it."""
    folder = Path(os.environ.get("BEDSIDE_MODELS_DIR", "~/.cache/bedside/models")).expanduser()
    if (model := ModelStore(folder).find(name)) is None:
        with tempfile.TemporaryDirectory() as data:
            command = [sys.executable, "-m", "bedside", "models", "pull", name, "--allow-download"]
            subprocess.run(command, check=True, env={**os.environ, "BEDSIDE_DATA": data})
        model = ModelStore(folder).find(name)
    assert model, f"{name} was pulled and is not there"
    return model.path


def engine_model(name: str = SMALLEST, path: Path | None = None) -> EngineModel:
    """A starter model as the embedded engine is told of it; ``path`` stands in for its file."""
    path = path or starter(name)
    digest = f"sha256:{DIGESTS.get(name, '0' * 64)}"
    info = ModelInfo(name, name, path.stat().st_size, installed=True, digest=digest, context_length=8192)
    return EngineModel(info, path)
