"""Bodies shown in OpenAPI and the docs; a test sends each of them."""

from collections.abc import Mapping

LOGIN: Mapping[str, object] = {"username": "dr.lee", "password": "correct horse battery staple"}
REFRESH: Mapping[str, object] = {"refreshToken": "0123456789abcdef0123456789abcdef.random-part"}
PASSWORD: Mapping[str, object] = {
    "currentPassword": "abcde-fghjk-mnpqr-stuvw",
    "newPassword": "correct horse battery staple",
}
PROCESS: Mapping[str, object] = {
    "modelName": "qwen2.5-coder:0.5b",
    "prompt": "Generate a SOAP note for: 65-year-old male with chest pain, BP 150/95, HR 88",
    "type": "text",
}
SOAP_NOTE: Mapping[str, object] = {"text": "65-year-old male with chest pain, BP 150/95, HR 88", "stream": True}
