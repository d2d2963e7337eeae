"""The program in an engine's child process: llama.cpp's own HTTP server for one model, on loopback.

It takes its configuration as one JSON line on stdin (never from arguments or the environment: other
users of the machine can read those, and the key is in it), says where it listens as one JSON line on
stdout, ``{"address": URL}`` or ``{"error": WHY}``, and ends when stdin ends. So an engine never
outlives the gateway, however the gateway died. With ``--devices`` it prints the GPUs and ends.

Nothing else of the program is imported here, and this module is the only one that touches llama.cpp.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

# Tokens read in one step. Reading a prompt is equally fast from 128 up (measured), and smaller steps
# report progress more often, take less memory and make other streams of the same model wait less.
READ_STEP = 256
ERRORS = 1  # llama.cpp's own scale; warnings come with every request and would push out what matters
LAYERS = {"auto": -1, "true": 999, "false": 0}
REFUSED = 3


def main() -> None:
    say = _keep_stdout()
    if "--devices" in sys.argv[1:]:
        say(gpus())
        return
    config = json.loads(sys.stdin.buffer.readline())
    _be_a_good_child()
    if config["gpu"] == "true" and not gpus():
        say({"error": "GPU_ACCELERATION=true, but llama.cpp finds no GPU on this machine"})
        sys.exit(REFUSED)
    server = _serve(config)
    say({"address": server.listening_address})
    # The main thread stays in Python so that signals are handled; the server has threads of its own.
    watcher = threading.Thread(target=_leave_at_eof)
    watcher.start()
    watcher.join()


def gpus() -> list[dict[str, object]]:
    """The GPUs that llama.cpp can use here: name, description, total and free memory in bytes."""
    import xllamacpp

    return [
        {
            "name": device["name"],
            "description": device["description"],
            "memoryTotal": device["memory_total"],
            "memoryFree": device["memory_free"],
        }
        for device in xllamacpp.get_device_info()
        if device["type"].name.endswith("GPU")  # GPU and IGPU; the others are CPU and its accelerators
    ]


def _serve(config: dict[str, Any]) -> Any:
    """Loads the model and listens. llama.cpp says on stderr why it could not, then this raises."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.n_ctx = config["context"]
    params.n_parallel = config["parallel"]
    params.kv_unified = True
    params.ctx_shift = False  # it would drop the beginning of a prompt in silence
    params.n_batch = params.n_ubatch = READ_STEP
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.n_gpu_layers = LAYERS[config["gpu"]]
    params.cache_prompt = True
    params.cache_ram_mib = config["cacheMib"]
    params.enable_reasoning = 0
    params.sse_ping_interval = -1  # a ping says that a socket is open, not that the model works
    params.verbosity = ERRORS
    _close_side_doors(params)
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        sys.exit(1)


def _close_side_doors(params: Any) -> None:
    """Leaves chat and counting; takes away what shows prompts, is meant for browsers, or writes files."""
    params.ui = False
    params.cors_origins = ""
    params.cors_credentials = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.endpoint_metrics = False
    params.slot_save_path = ""
    params.offline = True


def _keep_stdout() -> Any:
    """Keeps stdout for our one line; whatever native code prints there goes to stderr instead."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: object) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    return say


def _leave_at_eof() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)  # llama.cpp's threads would hold up an orderly exit; there is nothing to save


def _be_a_good_child() -> None:
    """Each step is a help where the system has it, and no harm where it has not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which lets requests finish
    os.environ["GGML_NO_BACKTRACE"] = "1"  # an abort would start a debugger on memory that holds prompts
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold prompts
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")  # short of memory, the engine goes first and not the gateway
        # llama.cpp holds Python's lock while it loads, so the watcher of stdin could not act then.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


if __name__ == "__main__":
    main()
