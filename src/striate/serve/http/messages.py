"""The service's responses, for its OpenAPI description."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Ranked(BaseModel):
    """A class and its probability."""

    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(alias="class")
    probability: float = Field(ge=0, le=1, description="A fraction; of a multi-label network independent.")


class ImageAnswer(BaseModel):
    """The answer for one image, as a line of striate predict --json."""

    file: str = Field(description="The name that was sent, without folders; image for a bare body.")
    predictions: list[Ranked] = Field(description="Falling; empty if the image is broken.")
    error: str | None = Field(description="Why the image can't be read, or null.")


class Answer(BaseModel):
    """One answer for each image that was sent, in their order."""

    images: list[ImageAnswer]


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    error: str


class Health(BaseModel):
    """Whether the service lives and takes requests."""

    live: bool
    ready: bool
    stopping: bool


class Info(BaseModel):
    """What is served, and how."""

    net: str
    classes: list[str]
    multi_label: bool
    temperature: float
    preprocessing: dict[str, Any]
    engine: str
    precision: str
    batch_images: int
    topk: int
    limits: dict[str, float]
    versions: dict[str, str] = Field(description="Of the programs that serve.")
    trained_with: dict[str, str] = Field(description="Of the programs that trained.")


def _problem(words: str) -> dict[str, Any]:
    return {"model": Problem, "description": words}


_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}

PREDICT_STATUSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "At least one image was read; error says what is wrong with the others."},
    400: _problem("A damaged multipart body, a part that is no file, or a parameter of the wrong kind."),
    408: _problem("The body did not come in within the limit."),
    413: _problem("The body is larger, or holds more images, than the limit."),
    415: _problem("The body is neither multipart/form-data nor an image, or it is packed."),
    422: {
        "model": Answer | Problem,
        "description": "None of the images can be read (an Answer with the reasons), or none was sent"
        " (a Problem).",
    },
    503: {**_problem("Too busy, or stopping: try again after Retry-After."), "headers": _RETRY},
}

_IMAGE = {"schema": {"type": "string", "format": "binary"}}

PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "description": "Images as JPEG, PNG, WebP, GIF or BMP: files of a form, under any field name, or one"
        " image as the whole body.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "array", "items": _IMAGE["schema"], "minItems": 1}},
                }
            },
            "image/*": _IMAGE,
            "application/octet-stream": _IMAGE,
        },
    }
}
