"""The catalogue: starter models by their digests, the deployment guide's names, and refusal of a bad file."""

import pytest

from bedside.core.errors import BedsideError
from bedside.models.catalogue import built_in, install_command, load
from bedside.models.sources import IndexSpec, UrlSpec

GUIDE = [
    "mistral:7b",
    "mistral:7b-instruct",
    "mistral:7b-q4_0",
    "mistral:7b-q8_0",
    "mistral:7b-fp16",
    "llama2:7b",
    "llama2:13b",
    "llama2:13b-chat",
    "codellama:7b",
    "codellama:34b",
    "llava:7b",
    "llava:13b",
]

ENTRY = """
[[model]]
name = "tiny:1b"
display_name = "Tiny"
size = 10
type = "text"
capabilities = ["completion"]
description = "For tests."
license = "Apache-2.0"
"""
SHA = f'sha256 = "{"a" * 64}"\n'


@pytest.mark.parametrize(
    ("name", "size", "start", "wheels"),
    [
        ("qwen2.5-coder:0.5b", 491_400_064, "1d961463", 6),
        ("qwen2.5-coder:1.5b", 1_117_320_768, "cc324af0", 22),
        ("smollm2:135m", 98_362_432, "b179c952", 1),
    ],
)
def test_a_starter_model_is_known_by_digest_and_comes_from_an_index(
    name: str, size: int, start: str, wheels: int
) -> None:
    entry = built_in().get(name)
    (source,) = entry.sources
    assert entry.size == size
    assert entry.sha256 is not None
    assert entry.sha256.startswith(start)
    assert isinstance(source, IndexSpec)
    assert len(source.wheels) == wheels
    assert entry.license == "Apache-2.0"
    assert install_command(entry) == f"bedside models pull {name} --allow-download"


@pytest.mark.parametrize("name", GUIDE)
def test_a_model_of_the_guide_is_known_and_comes_through_ollama(name: str) -> None:
    entry = built_in().get(name)
    info = entry.info()
    assert install_command(entry).startswith(f"ollama pull {name} ")
    assert info.type == ("vision" if name.startswith("llava") else "text")
    assert ("vision" in info.capabilities) == (info.type == "vision")
    assert info.digest is None
    assert not info.installed


def test_a_text_model_can_also_be_brought_as_a_file_and_a_vision_model_not() -> None:
    assert "bedside models add llama2:7b FILE.gguf" in install_command(built_in().get("llama2:7b"))
    assert "models add" not in install_command(built_in().get("llava:7b"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BedsideError) as caught:
        built_in().get("mistral:7b-instuct", ["own:1b"])
    assert caught.value.code == "MODEL_UNKNOWN"
    assert "mistral:7b-instruct" in caught.value.cure


def test_a_site_can_load_a_catalogue_of_its_own() -> None:
    sources = (
        'sources = [{kind = "index", wheels = ["a==1"], member = "a/*.gguf"}, {kind = "url", url = "https://x/y"}]'
    )
    entry = load(ENTRY + SHA + sources).get("tiny:1b")
    assert entry.sources == (IndexSpec(("a==1",), "a/*.gguf"), UrlSpec("https://x/y"))
    assert entry.info(installed=True).digest == "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[model", "end of document"),
        ("model = 3", ""),
        ('[[model]]\nname = "tiny:1b"', "lacks"),
        (ENTRY + 'colour = "red"', "colour"),
        (ENTRY + ENTRY, "same name"),
        (ENTRY.replace("tiny:1b", "../tiny"), "no model name"),
        (ENTRY.replace("size = 10", 'size = "10"'), "number of bytes"),
        (ENTRY.replace('"text"', '"sound"'), "neither text nor vision"),
        (ENTRY + 'sha256 = "abc"', "sha256"),
        (ENTRY + 'sources = [{kind = "url", url = "https://x/y"}]', "no sha256"),
        (ENTRY + SHA + 'sources = [{kind = "url", url = "file:///etc/passwd"}]', "http"),
        (ENTRY + SHA + 'sources = [{kind = "ftp", url = "ftp://x/y"}]', "neither index nor url"),
        (ENTRY + SHA + 'sources = [{kind = "index", wheels = []}]', "package==version"),
        (ENTRY + SHA + 'sources = [{kind = "index", wheels = ["--index-url=http://x"]}]', "package==version"),
        (ENTRY + SHA + 'sources = [{kind = "index", wheels = ["a>=1"]}]', "package==version"),
    ],
)
def test_a_catalogue_that_is_not_right_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BedsideError) as caught:
        load(text, "site.toml")
    assert caught.value.code == "SETTINGS_FILE"
    assert "site.toml" in caught.value.cause
    assert why in caught.value.cause
