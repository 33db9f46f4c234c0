"""The service keeps what its OpenAPI description says, whatever is sent: no status that is not in it."""

import asyncio
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_service import encoded

from striate.serve.http.limits import Limits
from striate.serve.http.service import Service, make_app
from striate.serve.http.upload import Body, HeldBytes, Refusal, file_name

PICTURES = [encoded(k, (12, 9), kind) for k, kind in enumerate(("png", "jpeg", "webp", "gif", "bmp"))]
_QUICK = settings(
    max_examples=250,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_LONG = settings(_QUICK, max_examples=20_000)


@pytest.fixture(scope="module")
def asked(small_engine, small_bundle):
    """Call the service: (method, path, headers, content) -> (status, type, body); and its description."""
    limits = Limits(request_mb=0.02, request_images=4, pixels=10_000)
    service = Service(small_engine, small_bundle[1], limits=limits, threads=1)
    app = make_app(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=transport, base_url="http://test")

        def call(method, path, query, headers, content):
            async def inside():
                url = httpx.URL("http://test", path=path, params=query)
                return await client.request(method, url, headers=headers, content=content)

            return runner.run(inside())

        yield call, json.loads(call("GET", "/openapi.json", {}, {}, b"").content)
        runner.run(client.aclose())
    service.close()
    assert (service.active, service._held.now, service._batcher.waiting_images) == (0, 0, 0)


def fits(value, schema, whole):
    """Say whether a value is what a JSON schema describes (as far as this description goes)."""
    if "$ref" in schema:
        return fits(value, whole["components"]["schemas"][schema["$ref"].split("/")[-1]], whole)
    if "anyOf" in schema:
        return any(fits(value, one, whole) for one in schema["anyOf"])
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind == "integer":
        return isinstance(value, int)
    if kind == "number":
        inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        return isinstance(value, int | float) and inside
    if not isinstance(value, kinds[kind]):
        return False
    if kind == "array":
        return all(fits(one, schema["items"], whole) for one in value)
    if kind == "object" and "properties" in schema:
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            fits(one, known[name], whole) for name, one in value.items()
        )
    return True


def check(asked, data):
    """Draw a request for one of the described operations, and hold the answer against the description."""
    call, whole = asked
    path = data.draw(st.sampled_from(sorted(whole["paths"])))
    method, operation = data.draw(st.sampled_from(sorted(whole["paths"][path].items())))
    query = {}
    for parameter in operation.get("parameters", ()):
        if data.draw(st.booleans()):
            wild = st.one_of(st.integers(), st.text(st.characters(codec="utf-8"), max_size=8), st.floats())
            query[parameter["name"]] = str(data.draw(wild | st.integers(1, 5)))
    headers, content = {}, b""
    if "requestBody" in operation:
        kinds = [kind.replace("*", "png") for kind in operation["requestBody"]["content"]]
        kind = data.draw(st.sampled_from([*kinds, *kinds, "text/plain", "multipart/mixed", ""]))
        headers, content = data.draw(forms(kind) if kind.startswith("multipart") else bodies(kind))
    answer = call(method.upper(), path, query, headers, content)
    described = operation["responses"]
    assert str(answer.status_code) in described, answer.text
    assert answer.status_code != 503 or "Retry-After" in answer.headers
    kind = answer.headers["Content-Type"].partition(";")[0]
    schema = described[str(answer.status_code)]["content"][kind]["schema"]
    if kind == "application/json":
        assert fits(answer.json(), schema, whole), (answer.text, schema)
    return answer.status_code


@st.composite
def pictures(draw):
    """A picture, or one that was torn or had some bytes changed, or anything."""
    kind = draw(st.sampled_from(["whole", "torn", "changed", "anything"]))
    if kind == "anything":
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(PICTURES)))
    if kind == "torn":
        return bytes(data[: draw(st.integers(0, len(data)))])
    if kind == "changed":
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@st.composite
def bodies(draw, kind):
    headers = {"Content-Type": kind} if kind else {}
    if draw(st.integers(0, 9)) == 0:
        headers["Content-Encoding"] = draw(st.sampled_from(["gzip", "identity", ""]))
    return headers, draw(pictures()) * draw(st.sampled_from([1, 1, 1, 50]))


@st.composite
def forms(draw, kind):
    boundary = draw(st.text("abcXYZ-_'()+,./:=?", min_size=0, max_size=20))
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        name = draw(st.text(st.characters(codec="utf-8", exclude_characters='\r\n"'), max_size=12))
        words = draw(st.sampled_from(['name="image"; filename="{}"', 'name="{}"', "{}", "filename={}"]))
        heading = "Content-Disposition: form-data; " + words.format(name)
        heading = draw(st.sampled_from([heading, heading, heading, "X: y", ""]))
        parts.append(heading.encode() + b"\r\n\r\n" + draw(pictures()) + b"\r\n")
    between = f"--{boundary}\r\n".encode()
    content = b"".join(between + part for part in parts) + f"--{boundary}--\r\n".encode()
    if draw(st.integers(0, 5)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return {"Content-Type": f'{kind}; boundary="{boundary}"'}, content


@_QUICK
@given(st.data())
def test_answers_are_those_described(asked, data):
    check(asked, data)


@pytest.mark.slow
@_LONG
@given(st.data())
def test_answers_are_those_described_at_length(asked, data):
    check(asked, data)


def test_the_drawn_requests_reach_every_case(asked):
    """The test above would pass if all requests were refused for one reason."""
    found = set()

    @settings(_QUICK, max_examples=300, derandomize=True)
    @given(st.data())
    def collect(data):
        found.add(check(asked, data))

    collect()
    assert {200, 400, 413, 415, 422} <= found


# -- Reading a body, in pieces of any size -------------------------------------------------------------------


async def _read(pieces, boundary, limits):
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)

    async def receive():
        return next(waiting)

    held = HeldBytes(limits.held_bytes)
    kind = f"multipart/form-data; boundary={boundary}"
    body = Body({"content-type": kind}, receive, limits, held)
    try:
        return await body.uploads()
    finally:
        body.give_back()
        assert held.now == 0


@settings(_QUICK, max_examples=100)
@given(
    st.lists(st.binary(max_size=300).map(lambda data: data.replace(b"x", b"\r\n--")), max_size=5),
    st.lists(st.integers(1, 90), min_size=1),
)
def test_a_form_in_any_pieces_gives_its_files_to_the_byte(files, sizes):
    boundary = "xxBOUNDARYxx"  # no x is in the files
    whole = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{k}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for k, data in enumerate(files)
    )
    whole += f"--{boundary}--\r\n".encode()
    pieces, at, turn = [], 0, 0
    while at < len(whole):
        pieces.append(whole[at : at + sizes[turn % len(sizes)]])
        at += len(pieces[-1])
        turn += 1
    found = asyncio.run(_read(pieces, boundary, Limits()))
    assert [(one.file, one.data) for one in found] == [(str(k), data) for k, data in enumerate(files)]


@settings(_QUICK, max_examples=50)
@given(st.lists(st.integers(0, 60), max_size=30))
def test_no_more_than_the_limit_is_ever_held(sizes):
    async def read():
        messages = iter([*sizes, None])
        taken = 0

        async def receive():
            nonlocal taken
            size = next(messages)
            taken += size or 0
            return {"type": "http.request", "body": b"y" * (size or 0), "more_body": size is not None}

        held = HeldBytes(1000)
        body = Body({"content-type": "image/png"}, receive, Limits(request_mb=0.0005, held_mb=0.001), held)
        if sum(sizes) <= 500:
            uploads = await body.uploads()
            assert sum(len(one.data) for one in uploads) == sum(sizes) == held.now
            return
        with pytest.raises(Refusal) as caught:
            await body.uploads()
        assert caught.value.status == 413
        assert taken - max(sizes) <= held.now <= 500  # refused at the piece that was one too many

    asyncio.run(read())


@given(st.text())
def test_a_file_name_is_printable_and_has_no_folder(given_name):
    name = file_name(given_name)
    assert name.isprintable()
    assert "/" not in name
    assert len(name) <= 200
    name.encode("utf-8")
