"""The small real models that tests use: their files, fetched once and kept in the shared model folder."""

import os
import subprocess
import sys
from pathlib import Path

from bedside.core.chat import ModelInfo
from bedside.runtimes.embedded import EngineModel

SMALLEST = "smollm2:135m"
DIGESTS = {
    SMALLEST: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "qwen2.5-coder:0.5b": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
}


def starter(name: str = SMALLEST) -> Path:
    """The model's file. One that is not there yet is pulled as a user would pull it."""
    folder = Path(os.environ.get("BEDSIDE_MODELS_DIR", "~/.cache/bedside/models")).expanduser()
    path = folder / "blobs" / f"sha256-{DIGESTS[name]}"
    if not path.exists():
        pull = "from bedside.cli import main; main()"
        subprocess.run([sys.executable, "-c", pull, "models", "pull", name, "--allow-download"], check=True)
    return path


def engine_model(name: str = SMALLEST, path: Path | None = None) -> EngineModel:
    """A starter model as the embedded engine is told of it; ``path`` stands in for its file."""
    path = path or starter(name)
    digest = f"sha256:{DIGESTS.get(name, '0' * 64)}"
    info = ModelInfo(name, name, path.stat().st_size, installed=True, digest=digest, context_length=8192)
    return EngineModel(info, path)
