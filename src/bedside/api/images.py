"""Is this really a picture? Checked by its structure before any model sees it, without decoding pixels."""

import base64
import binascii
from collections.abc import Callable, Mapping

from bedside.core.errors import BedsideError

MOST_PIXELS = 200_000_000
"""More than any camera or scanner makes; a file of a few bytes may claim far more and fill a node's memory."""


def decode_image(data: str) -> bytes:
    """The image file behind standard base64 (a ``data:`` URL's head is allowed).

    Raises ``BAD_BASE64`` or ``NOT_AN_IMAGE``.
    """
    encoded = data.partition(",")[2] if data.startswith("data:") else data
    try:
        image = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BedsideError("BAD_BASE64") from None
    if not any(image.startswith(magic) and whole(image) for magic, whole in _FORMS.items()):
        raise BedsideError("NOT_AN_IMAGE")
    return image


def _png(image: bytes) -> bool:
    """Header chunk first, end chunk last (W3C PNG, section 5.6)."""
    width, height = _sizes(image[16:24])
    return image[12:16] == b"IHDR" and image[-8:-4] == b"IEND" and 0 < width * height <= MOST_PIXELS


def _jpeg(image: bytes) -> bool:
    """A frame header, and an end-of-image marker (ITU-T T.81, annex B); some cameras pad after it."""
    frame = any(bytes((0xFF, marker)) in image for marker in (0xC0, 0xC1, 0xC2))
    return frame and image.rstrip(b"\0").endswith(b"\xff\xd9")


def _gif(image: bytes) -> bool:
    return image[:6] in (b"GIF87a", b"GIF89a") and image.rstrip(b"\0").endswith(b";")


def _bmp(image: bytes) -> bool:
    return len(image) > 26 and int.from_bytes(image[2:6], "little") == len(image)


def _webp(image: bytes) -> bool:
    return image[8:12] == b"WEBP" and int.from_bytes(image[4:8], "little") + 8 <= len(image) + 1


def _sizes(field: bytes) -> tuple[int, int]:
    return int.from_bytes(field[:4], "big"), int.from_bytes(field[4:], "big")


_FORMS: Mapping[bytes, Callable[[bytes], bool]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"RIFF": _webp,
}
