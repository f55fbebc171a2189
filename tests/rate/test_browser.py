"""A real browser rates a whole small study by keyboard. Set HARMONYIQA_SCREENSHOTS to a folder to keep pictures."""

import functools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

from harmonyiqa.network import listen
from harmonyiqa.rate.store import Store
from harmonyiqa.rate.study import open_study
from harmonyiqa.rate.web import make_app
from tests.rate.conftest import admin_secret_of, secret_of
from tests.rate.simulate import rate_all

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]
PATIENCE = 240_000  # ms; a busy machine is no failure
LANDSCAPE = {"width": 1280, "height": 720}
PORTRAIT = {"width": 1024, "height": 1366}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE
        )
        yield browser
        browser.close()


class Visit:
    """One browser profile: its page, and everything that went wrong on it."""

    def __init__(self, browser: Browser, base: str, size: dict[str, int], **options: object) -> None:
        self.base, self.troubles, self.asked = base, [], []
        self._open = functools.partial(browser.new_context, viewport=size, **options)
        self.reopen(None)

    def reopen(self, kept: StorageState | None) -> None:
        """A new window with what a browser keeps on the disk when it is closed."""
        self.context = self._open(storage_state=kept)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.new_page()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        return page

    def begin(self) -> None:
        """From consent to the first image, by keyboard."""
        page = self.page
        page.get_by_role("checkbox").press("Space")
        page.get_by_role("button", name="Begin").focus()
        self.strike("Enter", "#screen")
        page.get_by_label("Squares you see on black").select_option("7")
        page.get_by_label("Squares you see on white").select_option("8")
        shoot(page, "check")
        page.get_by_role("button", name="Start session").focus()
        self.strike("Enter", "#pictures")
        self.ready(1)

    def strike(self, key: str, then: str) -> None:
        """Press a key that leads to another page. Let go there: half a key press on each page hangs the driver."""
        self.page.keyboard.down(key)
        self.page.locator(then).first.wait_for()
        self.page.keyboard.up(key)

    def ready(self, number: int, page: Page | None = None) -> None:
        """Wait until an image is on the screen and answers are taken."""
        # no wait_for_function: it needs eval, which the page's policy forbids
        page = page or self.page
        page.locator("#count", has_text=re.compile(rf"\b{number} of")).wait_for()
        page.locator("#pictures:not(.loading) figure.shown img").first.wait_for()
        page.wait_for_timeout(500)  # the guard against double clicks


def shoot(page: Page, name: str) -> None:
    if folder := os.environ.get("HARMONYIQA_SCREENSHOTS"):
        size = page.viewport_size
        page.screenshot(path=Path(folder) / f"{name}_{size['width']}x{size['height']}.png")


@pytest.fixture
def visit(browser):
    """Call it with a store and a window size: serves the study, and follows rater 1's link."""
    servers, visits = [], []

    def start(store: Store, size: dict[str, int], **options: object) -> Visit:
        listener = listen("127.0.0.1", 0)
        opened, settings = open_study(store.folder)
        config = uvicorn.Config(make_app(opened, settings), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        servers.append((server, thread, opened))
        visit = Visit(browser, f"http://127.0.0.1:{listener.getsockname()[1]}", size, **options)
        visits.append(visit)
        visit.page.goto(f"{visit.base}/join/{secret_of(store)}")
        return visit

    yield start
    for each in visits:
        each.context.close()
    for server, thread, opened in servers:
        server.should_exit = True
        thread.join()
        opened.close()


def values(store: Store) -> list[tuple[int, int]]:
    rows = store.rows("SELECT position, value FROM vote WHERE rater = 1 ORDER BY position, revision")
    return [tuple(row) for row in rows]


def test_a_whole_study_by_keyboard_with_a_closed_browser_between(make_study, visit) -> None:
    store = make_study(sessions=1)
    rater = visit(store, LANDSCAPE)
    shoot(rater.page, "consent")
    rater.begin()
    shoot(rater.page, "small_images")
    keyboard = rater.page.keyboard
    assert rater.page.evaluate("document.getElementById('pictures').className").startswith("side")
    for position in range(1, 9):
        keyboard.press(str(1 + position % 5))
        rater.ready(position + 1)
    keyboard.press("Backspace")
    rater.page.wait_for_selector("#keep:visible")
    rater.page.wait_for_timeout(500)
    keyboard.press("5")
    rater.ready(9)

    kept = rater.context.storage_state()
    rater.context.close()
    assert all(cookie["expires"] > time.time() + 3600 for cookie in kept["cookies"]), (
        "not for this session only"
    )
    rater.reopen(kept)
    again = rater.page
    again.goto(rater.base)
    rater.ready(9)
    rater.strike("p", "text=Everything you rated is saved")
    shoot(again, "paused")
    again.get_by_role("button", name="Go on").click()
    for position in range(9, 24):
        rater.ready(position)
        again.keyboard.press("3")
    rater.ready(24)
    rater.strike("3", "text=That was the last one")
    shoot(again, "done")
    expected = [(p, 1 + p % 5) for p in range(1, 9)] + [(8, 5)] + [(p, 3) for p in range(9, 25)]
    assert values(store) == sorted(expected, key=lambda each: each[0])
    assert rater.troubles == []
    assert all(url.startswith(rater.base) for url in rater.asked), "no third party is asked"


def test_double_clicks_two_tabs_and_the_back_button_make_no_second_vote(make_study, visit) -> None:
    store = make_study()
    rater = visit(store, LANDSCAPE)
    rater.begin()
    other = rater.new_page()
    other.goto(rater.base)
    rater.ready(1, other)
    rater.page.get_by_role("button", name="4 Good").dblclick()
    rater.ready(2)
    assert values(store) == [(1, 4)]
    other.keyboard.press("1")
    other.get_by_text("the first answer stands").wait_for()
    assert values(store) == [(1, 4)]
    rater.page.go_back()
    rater.page.goto(rater.base)
    rater.ready(2)
    assert values(store) == [(1, 4)]
    assert rater.troubles == []


def test_a_lost_connection_loses_no_vote(make_study, visit) -> None:
    store = make_study()
    rater = visit(store, LANDSCAPE)
    rater.begin()
    rater.context.set_offline(True)
    rater.page.keyboard.press("2")
    rater.page.get_by_text("No connection").wait_for()
    assert values(store) == []
    rater.context.set_offline(False)
    rater.ready(2)
    assert values(store) == [(1, 2)]


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT], ids=["landscape", "portrait"])
def test_images_are_at_one_to_one_whatever_the_window(make_study, visit, size, big_scenes) -> None:
    store = make_study(scenes=big_scenes)
    rater = visit(store, size)
    rater.begin()
    page = rater.page
    shoot(page, "rating")
    first = page.locator("#pictures img").first
    box = first.evaluate(
        "image => [image.clientWidth, image.naturalWidth, image.clientHeight, image.naturalHeight]"
    )
    assert box[0] == box[1]
    assert box[2] == box[3]
    flips = page.locator("#flip button")
    assert page.locator("#pictures").evaluate("e => e.classList.contains('flip')")
    assert flips.all_inner_texts() == ["Harmonized", "Composite", "Reference"]
    assert shown(page) == "Harmonized image"
    page.keyboard.press("f")
    assert shown(page) == "Composite image"
    page.locator("#pictures").click()
    assert shown(page) == "Reference image"
    flips.nth(0).click()
    assert shown(page) == "Harmonized image"
    for button in page.locator("footer button:visible").all():
        edge = button.bounding_box()
        assert edge["x"] >= 0
        assert edge["x"] + edge["width"] <= size["width"]
        assert edge["y"] + edge["height"] <= size["height"]
        assert edge["height"] >= 44, "a finger needs that much"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert rater.troubles == []


def shown(page: Page) -> str:
    return page.locator("#pictures figure.shown img").get_attribute("alt")


def test_a_drag_pans_and_is_no_click(make_study, visit, big_scenes) -> None:
    rater = visit(make_study(scenes=big_scenes), LANDSCAPE)
    rater.begin()
    page, pictures = rater.page, rater.page.locator("#pictures")
    page.set_viewport_size({"width": 440, "height": 480})  # the image is 512 wide
    page.locator("#pictures.pans").wait_for()
    pictures.evaluate("e => e.scrollTo(0, 0)")
    box = pictures.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 50, steps=5)
    page.mouse.up()
    assert pictures.evaluate("e => e.scrollLeft") == 50
    assert shown(page) == "Harmonized image"
    pictures.click()
    assert shown(page) == "Composite image"
    assert rater.troubles == []


def test_on_a_fine_screen_one_image_pixel_is_one_device_pixel(make_study, visit) -> None:
    rater = visit(make_study(), PORTRAIT, device_scale_factor=2, has_touch=True)
    rater.begin()
    assert rater.page.locator("#pictures img").first.evaluate("image => image.clientWidth") == 24  # of 48
    rater.page.get_by_role("button", name="5 Excellent").tap()
    rater.ready(2)
    assert rater.troubles == []


def test_pairs_are_chosen_by_key(make_study, visit) -> None:
    store = make_study(mode="pairs", pairs=3)
    rater = visit(store, LANDSCAPE)
    rater.begin()
    shoot(rater.page, "pairs")
    rater.page.keyboard.press("2")
    rater.ready(2)
    assert values(store) == [(1, 2)]


def test_no_violation_of_accessibility_rules(make_study, visit) -> None:
    axe = Axe()
    store = make_study(raters=5, repeats=8)
    rate_all(store, {2: "good", 3: "good", 4: "random", 5: "same"})
    # axe's script is put in through the debugger, which the page's policy does not bind
    rater = visit(store, LANDSCAPE, bypass_csp=True)

    def check(page: Page) -> None:
        found = axe.run(page).response["violations"]
        assert found == [], [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]

    check(rater.page)
    rater.page.get_by_role("checkbox").check()
    rater.page.get_by_role("button", name="Begin").click()
    rater.page.locator("#screen").wait_for()
    check(rater.page)
    rater.page.get_by_label("Squares you see on black").select_option("7")
    rater.page.get_by_label("Squares you see on white").select_option("8")
    rater.page.get_by_role("button", name="Start session").click()
    rater.ready(1)
    check(rater.page)
    rater.page.locator("summary").click()
    check(rater.page)
    rater.page.keyboard.press("p")
    rater.page.locator("#continue").wait_for()
    check(rater.page)
    rater.page.goto(f"{rater.base}/admin/join/{admin_secret_of(store)}")
    rater.page.get_by_text("nearly always the same answer").wait_for()
    for size in (PORTRAIT, LANDSCAPE):
        rater.page.set_viewport_size(size)
        shoot(rater.page, "admin")
        check(rater.page)
        assert rater.page.locator(".scroll").evaluate("e => e.scrollWidth <= e.clientWidth"), (
            "no column is cut"
        )


def test_the_keyboard_reaches_everything_in_reading_order(make_study, visit) -> None:
    rater = visit(make_study(), LANDSCAPE)
    rater.begin()
    rater.page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        rater.page.keyboard.press("Tab")
        reached.append(
            rater.page.evaluate("document.activeElement.innerText.trim() || document.activeElement.id")
        )
    labels = ["1 Bad", "2 Poor", "3 Fair", "4 Good", "5 Excellent"]
    assert [" ".join(each.split()) for each in reached[:2]] == ["Help", "Pause"]
    assert [" ".join(each.split()) for each in reached[3:]] == labels
