"""The page's route and what holds for its one file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest
from fastapi import FastAPI

from frontend import page

pytestmark = pytest.mark.anyio

MAX_BYTES = 60_000
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name; nothing is loaded from there
LOADING = {"src", "srcset", "action", "formaction", "poster", "data", "ping", "background", "style"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(page.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as client:
        yield client


@pytest.fixture
def source() -> str:
    return resources.files("frontend.page").joinpath("index.html").read_text()


def policy(response: httpx.Response) -> dict[str, list[str]]:
    """The Content-Security-Policy by directive."""
    directives = (part.split() for part in response.headers["content-security-policy"].split(";"))
    return {name: values for name, *values in directives}


def digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


async def test_the_file_is_served(http: httpx.AsyncClient, source: str) -> None:
    response = await http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == source


async def test_it_is_asked_for_again_and_sent_when_it_changed(http: httpx.AsyncClient) -> None:
    first = await http.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await http.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    changed = await http.get("/", headers={"if-none-match": '"older"'})
    assert changed.status_code == 200


async def test_headers_that_keep_it_closed(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


async def test_the_policy_allows_this_script_and_style_and_nothing_else(
    http: httpx.AsyncClient, source: str
) -> None:
    allowed = policy(await http.get("/"))
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        contents = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", source, re.DOTALL)
        assert len(contents) == 1
        assert allowed[directive] == [digest(contents[0])]
    assert allowed["default-src"] == ["'none'"]
    assert allowed["connect-src"] == ["'self'"]
    assert allowed["img-src"] == ["data:"]
    for directive in ("frame-ancestors", "base-uri", "form-action", "trusted-types"):
        assert allowed[directive] == ["'none'"]
    assert allowed["require-trusted-types-for"] == ["'script'"]


async def test_it_is_no_part_of_the_api(http: httpx.AsyncClient) -> None:
    assert (await http.get("/openapi.json")).json()["paths"] == {}


def test_no_address_but_our_own(source: str) -> None:
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w", source.replace(SVG_NAMESPACE, ""))


class Attributes(HTMLParser):
    """All attributes of a document's tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.all: list[tuple[str, str | None]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.all += attributes


def test_nothing_is_loaded_beside_it(source: str) -> None:
    attributes = Attributes(source).all
    assert not [name for name, _ in attributes if name in LOADING or name.startswith("on")]
    assert [value[:15] for name, value in attributes if name == "href" and value] == ["data:image/svg+"]
    assert "@import" not in source
    assert "url(" not in source


def test_the_script_never_writes_html(source: str) -> None:
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source
    )


def test_keys_stay_in_the_tab(source: str) -> None:
    assert not re.findall(r"localStorage|document\.cookie|indexedDB", source)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_by_every_name_that_the_settings_give_it(source: str, name: str) -> None:
    assert re.findall(rf"\bdelta\.{name}\b", source)


def test_it_is_small(source: str) -> None:
    assert len(source.encode()) < MAX_BYTES
