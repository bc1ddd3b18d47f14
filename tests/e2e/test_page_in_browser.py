"""The page at `/` in a real browser, on a real shim in front of a real tritonserver."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: browser)")
from playwright.sync_api import Browser, Page, Request, Route, expect  # noqa: E402 - after the skip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE, SMALLEST = (1280, 800), (375, 740), (320, 600)
CHAT = "/v1/chat/completions"
API_KEY, ADMIN_KEY = "visitors-key", "operators-key"
GREEDY = {"Temperature": "0", "Max tokens": "24"}


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton, admin_key=ADMIN_KEY) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One tab, and what it has done.

    Attributes:
        problems: uncaught exceptions and what the console calls an error, refused requests aside.
        requests: all that left the tab.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        self.requests: list[Request] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._note)
        page.on("request", lambda request: self.requests.append(request))
        page.clock.install()  # it goes on by itself; a test can turn it on
        page.goto(url)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def ask(self, text: str) -> None:
        expect(self.page.get_by_role("button", name="Send")).to_be_enabled()
        self.page.get_by_label("Message").fill(text)
        self.page.keyboard.press("Enter")

    def answered(self) -> None:
        expect(self.page.locator("#announcer")).to_have_text("The answer is complete.", timeout=60_000)

    def set(self, **settings: str) -> None:
        self.page.get_by_text("Settings", exact=True).click()
        for label, value in settings.items():
            self.page.get_by_label(label).fill(value)

    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far."""
        return [json.loads(r.post_data or "") for r in self.requests if urlsplit(r.url).path == CHAT]

    def polls(self) -> int:
        return sum(urlsplit(request.url).path == "/stats" for request in self.requests)

    def live(self) -> None:
        """On a narrow screen, to the figures."""
        self.page.get_by_role("button", name="Live").click()

    def tile(self, label: str) -> Any:
        return self.page.locator(".tile", has=self.page.get_by_role("heading", name=label, exact=True))


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, shim: ShimProcess) -> Iterator[Open]:
    """Opens the page. At the end: no error in any tab, and nobody else was asked for anything."""
    visits: list[Visit] = []

    def open_page(size: tuple[int, int] = DESKTOP, url: str = "", **context: Any) -> Visit:
        width, height = size
        tab = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        visits.append(Visit(tab, url or shim.url))
        return visits[-1]

    yield open_page
    for done in visits:
        done.page.context.close()
        assert done.problems == []
        hosts = {urlsplit(request.url).netloc for request in done.requests if request.url.startswith("http")}
        assert hosts == {urlsplit(done.url).netloc}


def scripted(visit: Visit, *pieces: bytes) -> None:
    """The next answers come from here, cut as given: a network decides that, and no server can be made to."""
    visit.page.evaluate(
        """(pieces) => {
            const real = window.fetch;
            const body = () => new ReadableStream({
                start(stream) {
                    for (const piece of pieces) stream.enqueue(new Uint8Array(piece));
                    stream.close();
                },
            });
            window.fetch = (path, options) =>
                path === "/v1/chat/completions" ? Promise.resolve(new Response(body())) : real(path, options);
        }""",
        [list(piece) for piece in pieces],
    )


def delta(**fields: str) -> str:
    choice = {"index": 0, "delta": fields, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice], 'usage': None}, ensure_ascii=False)}"


DONE = "data: [DONE]"


def stream(*events: str, line_end: str = "\n") -> bytes:
    return "".join(event + 2 * line_end for event in events).encode()


def test_a_message_is_answered_while_one_reads(visit: Open) -> None:
    """Its text grows under the eyes, and the line below tells the figures."""
    tab = visit()
    tab.set(**{"Max tokens": "200"})
    tab.ask("Good morning!")
    expect(tab.page.locator(".answer[aria-busy=true] .text > *").first).not_to_be_empty()
    expect(tab.page.get_by_role("button", name="Stop")).to_be_visible()
    tab.answered()
    expect(tab.page.get_by_role("button", name="Send")).to_be_visible()
    figures = tab.page.locator(".figures")
    expect(figures).to_contain_text(
        re.compile(r"^TTFT [\d.]+ m?s · [\d.,]+ tokens/s · prompt \d+ \(\d+ cached\)")
    )
    expect(figures).to_contain_text(re.compile(r"completion \d+"))


def test_it_is_the_apis_answer_and_the_next_turn_knows_it(visit: Open, shim: ShimProcess) -> None:
    tab = visit()
    tab.set(**GREEDY, **{"System prompt": "Be brief."})
    tab.ask("Good morning!")
    tab.answered()
    tab.ask("And now?")
    expect(tab.page.locator(".answer[aria-busy=false] .figures:visible")).to_have_count(2, timeout=60_000)
    first, second = tab.chats()
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Good morning!"},
    ]
    message = (
        shim.client()
        .chat.completions.create(
            model=ENSEMBLE, messages=first["messages"], temperature=0, max_completion_tokens=24
        )
        .choices[0]
        .message
    )
    said = {"reasoning": getattr(message, "reasoning", None) or "", "content": message.content or ""}
    assert "".join(said.values())
    assert second["messages"] == [
        *first["messages"],
        {"role": "assistant", **said},
        {"role": "user", "content": "And now?"},
    ]
    assert first["prompt_cache_key"] == second["prompt_cache_key"]


def test_what_is_not_set_is_left_to_the_server(visit: Open) -> None:
    tab = visit()
    tab.ask("Good morning!")
    tab.page.get_by_role("button", name="Stop").click()
    assert set(tab.chats()[0]) == {"model", "messages", "stream", "stream_options", "prompt_cache_key"}


def test_a_wrong_setting_is_shown_and_not_sent(visit: Open) -> None:
    tab = visit()
    tab.set(Temperature="3")
    tab.page.get_by_text("Settings", exact=True).click()  # folded away again
    tab.ask("Good morning!")
    expect(tab.page.get_by_label("Temperature")).to_be_visible()
    assert tab.chats() == []


def test_stop_and_new_chat(visit: Open, shim: ShimProcess) -> None:
    tab = visit()
    tab.ask("Tell me a long story.")
    expect(tab.page.locator(".answer .text > *").first).not_to_be_empty()
    tab.page.get_by_role("button", name="Stop").click()
    expect(tab.page.locator(".figures")).to_contain_text("stopped")
    expect(tab.page.get_by_role("button", name="Send")).to_be_focused()
    expect(tab.tile("Running").locator(".number")).to_have_text(
        "0", timeout=15_000
    )  # the engine has stopped, too
    tab.page.get_by_role("button", name="New chat").click()
    expect(tab.page.locator(".question, .answer")).to_have_count(0)
    tab.set(**GREEDY)
    tab.ask("Another thing.")
    tab.answered()
    before, after = tab.chats()
    assert after["messages"] == [{"role": "user", "content": "Another thing."}]
    assert after["prompt_cache_key"] != before["prompt_cache_key"]


def test_enter_sends_and_shift_enter_breaks_the_line(visit: Open) -> None:
    tab = visit()
    expect(tab.page.get_by_label("Message")).to_be_focused()
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    for key in ("a", "Shift+Enter", "b", "Enter"):
        tab.page.keyboard.press(key)
    expect(tab.page.locator(".question .text")).to_have_text("a\nb", use_inner_text=True)
    assert tab.chats()[0]["messages"] == [{"role": "user", "content": "a\nb"}]


@pytest.mark.parametrize(
    "names",
    [["reasoning"], ["reasoning_content"], ["reasoning", "reasoning_content"]],
    ids=["reasoning", "reasoning_content", "both"],
)
def test_reasoning_has_a_fold_of_its_own(visit: Open, names: list[str]) -> None:
    """By whatever name the server's settings give it."""
    tab = visit()
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    events = [
        delta(**dict.fromkeys(names, "Hm, ")),
        delta(**dict.fromkeys(names, "a greeting.")),
        delta(content="Hello!"),
        DONE,
    ]
    scripted(tab, stream(*events))
    tab.ask("Hi")
    tab.answered()
    fold = tab.page.locator("details.reasoning")
    expect(fold.locator("summary")).to_contain_text("Thought for")
    expect(fold.locator(".text")).to_be_hidden()
    fold.locator("summary").click()
    expect(fold.locator(".text")).to_have_text("Hm, a greeting.")
    expect(tab.page.locator(".answer .content")).to_have_text("Hello!")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_events_are_put_together_wherever_they_were_cut(visit: Open, line_end: str) -> None:
    tab = visit()
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    text = ["Grüße, ", "世界 ", "🎉", " and more"]
    events = [": keep-alive", *(delta(content=piece) for piece in text), "event: end", DONE]
    scripted(tab, *(bytes([byte]) for byte in stream(*events, line_end=line_end)))
    tab.ask("Hi")
    tab.answered()
    expect(tab.page.locator(".answer .content")).to_have_text("".join(text))


def test_text_is_never_html(visit: Open) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=1</script> **<b>bold</b>**'
    code = "```html\n<i>code</i>\n```\n"
    tab = visit()
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    scripted(tab, stream(delta(content=f"{hostile}\n{code}after"), DONE))
    tab.ask(hostile)
    tab.answered()
    expect(tab.page.locator(".question .text")).to_have_text(hostile)
    content = tab.page.locator(".answer .content")
    expect(content.locator("pre code")).to_have_text("<i>code</i>\n", use_inner_text=False)
    expect(content.locator("strong")).to_have_text("<b>bold</b>")
    expect(content).to_contain_text("onerror=")
    expect(content.locator("img, script, b, i")).to_have_count(0)
    expect(tab.page).to_have_title("gpt-oss-triton")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            ['data: {"error": {"message": "The engine died.", "code": "engine_unavailable"}}'],
            "The engine died.",
        ),
        ([], "The answer ended too early."),
    ],
    ids=["error event", "no end"],
)
def test_an_answer_that_fails_says_so_and_can_be_asked_again(
    visit: Open, rest: list[str], message: str
) -> None:
    tab = visit()
    tab.set(**GREEDY)
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    scripted(tab, stream(delta(content="Half an ans"), *rest))
    tab.ask("Hi")
    expect(tab.page.get_by_role("alert")).to_contain_text(message)
    expect(tab.page.locator(".answer .content")).to_have_text("Half an ans")
    scripted(tab, stream(delta(content="A whole one"), DONE))
    tab.page.get_by_role("button", name="Try again").click()
    tab.answered()
    expect(tab.page.locator(".answer .content")).to_have_text("A whole one")
    expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_a_refusal_is_counted_down_and_asked_again(visit: Open) -> None:
    """The refusal is made up, what answers after it is the server."""
    tab = visit()
    tab.set(**GREEDY)
    error = {"message": "No room.", "type": "rate_limit_error", "param": None, "code": "overloaded"}

    def refuse(route: Route) -> None:
        route.fulfill(status=429, headers={"retry-after": "2"}, json={"error": error})

    tab.page.route(f"**{CHAT}", refuse, times=1)
    tab.ask("Hi")
    expect(tab.page.get_by_role("alert")).to_contain_text("No room.")
    expect(tab.page.get_by_role("button", name=re.compile(r"Try again \([12] s\)"))).to_be_visible()
    tab.answered()
    assert len(tab.chats()) == 2
    assert tab.chats()[0] == tab.chats()[1]


def test_a_refusal_that_is_not_waited_for(visit: Open) -> None:
    tab = visit()
    tab.page.route(
        f"**{CHAT}", lambda route: route.fulfill(status=429, headers={"retry-after": "1"}, json={})
    )
    tab.ask("Hi")
    tab.page.get_by_role("button", name="Cancel").click()
    expect(tab.page.get_by_role("button", name="Try again", exact=True)).to_be_visible()
    tab.page.clock.run_for(60_000)
    assert len(tab.chats()) == 1


def test_the_key_is_asked_for_and_kept_in_the_tab(visit: Open, triton: TritonServer) -> None:
    with ShimProcess(triton, api_key=API_KEY) as guarded:
        tab = visit(url=guarded.url)
        dialog = tab.page.get_by_role("dialog")
        expect(tab.page.locator("#status")).to_have_text("Key needed")
        for key, status in (("wrong", 401), (API_KEY, 200)):
            dialog.get_by_label("API key").fill(key)
            with tab.page.expect_response("**/v1/models") as models:
                dialog.get_by_role("button", name="Save").click()
            assert models.value.status == status
        expect(dialog).to_be_hidden()
        expect(tab.page.locator("#status")).to_have_text("Ready", timeout=10_000)
        tab.set(**GREEDY)
        tab.ask("Hi")
        tab.answered()
        assert tab.page.evaluate("Object.values(sessionStorage)") == [API_KEY]
        assert tab.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert not [request.url for request in tab.requests if API_KEY in request.url]


def test_tiles_and_engines_have_figures(visit: Open) -> None:
    tab = visit()
    tab.set(**GREEDY)
    tab.ask("Hi")
    tab.answered()
    for label in (
        "Output",
        "First token",
        "Running",
        "Queue",
        "KV cache in use",
        "Prefix cache",
        "Errors",
        "Sessions",
    ):
        expect(tab.tile(label).locator(".number")).to_contain_text(re.compile(r"\d"), timeout=10_000)
    expect(tab.page.locator("#status")).to_have_text("Ready")
    engine = tab.page.locator(".engine")
    expect(engine).to_have_count(1)
    expect(engine).to_contain_text(ENSEMBLE)
    expect(engine).to_contain_text("float32")
    expect(engine).to_contain_text(re.compile(r"\d+ of [\d,]+ blocks used"))
    expect(tab.page.locator("#pressure")).to_contain_text("No pressure")
    expect(tab.tile("Running").locator(".first")).to_have_attribute(
        "d", re.compile(r"^M\d+ [\d.]+(L\d+ [\d.]+)+$")
    )


def test_figures_stop_for_a_tab_that_nobody_sees(visit: Open) -> None:
    tab = visit()
    show = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    expect(tab.page.locator("#status")).to_have_text("Ready")
    with tab.page.expect_response("**/stats"):
        tab.page.clock.run_for(2000)
    tab.page.evaluate(show, True)
    tab.page.wait_for_load_state("networkidle")
    before = tab.polls()
    tab.page.clock.run_for(60_000)
    assert tab.polls() == before
    with tab.page.expect_response("**/stats"):
        tab.page.evaluate(show, False)


def test_without_figures_it_says_so_and_comes_back(visit: Open) -> None:
    tab = visit()
    expect(tab.page.locator("#status")).to_have_text("Ready")
    tab.page.route("**/stats", lambda route: route.abort())
    expect(tab.page.locator("#stats-problem")).to_contain_text("Next try in 4", timeout=15_000)
    expect(tab.page.locator("#status")).to_have_text("Unreachable")
    tab.page.unroute("**/stats")
    expect(tab.page.locator("#stats-problem")).to_be_hidden(timeout=15_000)
    expect(tab.page.locator("#status")).to_have_text("Ready")


def test_a_visitor_can_look_and_no_more(visit: Open) -> None:
    tab = visit()
    expect(tab.page.locator("#status")).to_have_text("Ready")
    expect(tab.page.get_by_role("button", name="Enter the admin key")).to_be_visible()
    for control in ("Drain", "Download debug bundle"):
        expect(tab.page.get_by_role("button", name=control)).to_have_count(0)
    assert tab.page.locator("#server-settings tr").count() == 0


def become_operator(tab: Visit, key: str = ADMIN_KEY) -> None:
    tab.page.get_by_role("button", name="Enter the admin key").click()
    tab.page.get_by_label("Admin key").fill(key)
    tab.page.get_by_role("button", name="Save").click()


def test_a_wrong_admin_key_is_not_kept(visit: Open) -> None:
    tab = visit()
    become_operator(tab, "wrong")
    expect(tab.page.get_by_role("dialog")).to_contain_text("The admin key was not accepted.")
    assert tab.page.evaluate("sessionStorage.length") == 0


def test_an_operator_sees_settings_and_origins(visit: Open) -> None:
    tab = visit()
    become_operator(tab)
    tab.page.get_by_text("Settings and where they come from").click()
    row = tab.page.locator("#server-settings tr", has_text="max_queue")
    expect(row.locator("td")).to_have_text("256")
    expect(row.locator("th")).to_contain_text("default")
    expect(tab.page.locator("#server-settings")).not_to_contain_text(ADMIN_KEY)


def test_an_operator_drains_and_resumes(visit: Open, shim: ShimProcess) -> None:
    tab = visit()
    tab.page.on("dialog", lambda dialog: dialog.accept())
    become_operator(tab)
    tab.page.get_by_role("button", name="Drain").click()
    expect(tab.page.locator("#status")).to_have_text("Draining")
    assert not shim.ready()
    tab.page.get_by_role("button", name="Resume").click()
    expect(tab.page.locator("#status")).to_have_text("Ready")
    assert shim.ready()


def test_an_operator_changes_the_log_level(visit: Open) -> None:
    tab = visit()
    become_operator(tab)
    for level in ("debug", "info"):
        tab.page.get_by_label("Log level").select_option(level)
        expect(tab.page.locator("#operation-result")).to_have_text(f"The log level is {level}.")


def test_an_operator_downloads_the_bundle(visit: Open, tmp_path: Path) -> None:
    tab = visit()
    become_operator(tab)
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Download debug bundle").click()
    assert download.value.suggested_filename.endswith(".zip")
    download.value.save_as(tmp_path / "bundle.zip")
    assert zipfile.is_zipfile(tmp_path / "bundle.zip")


LONG = "https://example.org/" + "x" * 300  # no place to break the line


@pytest.mark.parametrize("size", [SMALLEST, PHONE, (860, 700), DESKTOP], ids=lambda size: str(size[0]))
def test_nothing_is_wider_than_the_screen(visit: Open, size: tuple[int, int]) -> None:
    tab = visit(size)
    expect(tab.page.get_by_role("button", name="Send")).to_be_enabled()
    code = f"```\n{LONG}\n```\n"
    scripted(tab, stream(delta(reasoning=LONG), delta(content=code + LONG), DONE))
    tab.ask(LONG)
    tab.answered()
    tab.page.get_by_text("Settings", exact=True).click()
    overflow = "document.documentElement.scrollWidth - window.innerWidth"
    assert tab.page.evaluate(overflow) <= 0
    inner = "(id) => { const e = document.getElementById(id); return e.scrollWidth - e.clientWidth; }"
    assert tab.page.evaluate(inner, "transcript") <= 0
    if size[0] <= 860:
        tab.live()
    expect(tab.page.locator(".engine")).to_be_visible()
    assert tab.page.evaluate(overflow) <= 0
    assert tab.page.evaluate(inner, "live") <= 0


def test_targets_on_a_phone_are_as_large_as_a_finger(visit: Open) -> None:
    tab = visit(PHONE, has_touch=True)
    heights = "all => all.filter(e => e.checkVisibility()).map(e => [e.textContent, e.getBoundingClientRect().height])"
    controls = "button, select, summary, input, #message"
    small = [(n, h) for n, h in tab.page.locator(controls).evaluate_all(heights) if h < 43]
    tab.live()
    small += [(n, h) for n, h in tab.page.locator(controls).evaluate_all(heights) if h < 43]
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_how_it_looks(visit: Open, size: tuple[int, int], scheme: str, tmp_path: Path) -> None:
    """For eyes: the pictures stay in the test's directory. Here: that each scheme has its own colours."""
    tab = visit(size, color_scheme=scheme)
    tab.set(**GREEDY)
    tab.ask("Good morning!")
    tab.answered()
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.screenshot(path=tmp_path / "chat.png")
    if size == PHONE:
        tab.live()
        tab.page.screenshot(path=tmp_path / "live.png")
    red = tab.page.evaluate("Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])")
    assert (red < 60) == (scheme == "dark")
