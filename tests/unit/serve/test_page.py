"""The web page in a real browser: clicked, typed at, dropped on."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ColourRuntime, LookingRuntime, png, predictor_of

HOSTILE = "<img src=x onerror=alert(1)>"
MAGENTA, TEAL = png((255, 0, 255), (40, 20)), png((0, 200, 255), (30, 30))
REFUSED = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture
def open_page(browser: Any, serving: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Opens the page of a service; at the end, nothing may have gone wrong in the browser."""
    import contextlib

    wrong: list[str] = []
    with contextlib.ExitStack() as stack:

        def open_page(
            runtime: ColourRuntime | None = None, labels: tuple[str, ...] | None = None, **options: Any
        ) -> Any:
            token = options.pop("token", None)
            runtime = runtime or LookingRuntime()
            predictor = predictor_of(runtime) if labels is None else predictor_of(runtime, labels)
            client = stack.enter_context(serving(predictor, token=token))
            address = str(client.base_url)
            context = stack.enter_context(browser.new_context(**options))
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
            page.on(
                "console",
                lambda message: (
                    message.type in {"error", "warning"}
                    and not message.text.startswith(REFUSED)
                    and wrong.append(message.text)
                ),
            )
            page.on(
                "request",
                lambda request: (
                    request.url.startswith((address, "blob:", "data:"))
                    or wrong.append(f"asked {request.url}")
                ),
            )
            page.goto(address)
            return page

        yield open_page
    assert wrong == []


def give(page: Any, *files: tuple[str, bytes]) -> None:
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    )


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Waits; Playwright's own way would evaluate a string in the page, which its policy forbids."""
    for _ in range(600):
        if page.evaluate(condition, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def labels_found(page: Any) -> list[str]:
    return page.locator("#found .chip .label").all_text_contents()


def move_slider(page: Any, value: int) -> None:
    page.locator("#strictness").fill(str(value))


def test_page__shows_labels_and_where_the_model_looked(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.wait_for_selector("#known-labels li")
    assert page.locator("#known-labels li").all_text_contents() == ["red", "green", "blue, dark"]
    give(page, ("photo.png", MAGENTA))
    page.wait_for_selector("#found .chip")
    assert labels_found(page) == ["red", "blue, dark"]
    assert page.locator("#found .score").first.text_content() == "100.0 %"
    assert page.locator("#heat").is_hidden()
    for label, bright, dim in (("red", (0, 0), (-1, -1)), ("blue, dark", (-1, -1), (0, 0))):
        page.locator(f'#found .chip[data-label="{label}"]').click()
        until(page, "label => document.getElementById('said').textContent.endsWith(label)", label)
        assert page.locator(f'.chip[data-label="{label}"]').get_attribute("aria-pressed") == "true"
        data = page.evaluate("document.getElementById('heat').toDataURL().split(',')[1]")
        heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
        assert heat.shape[:2] == (240, 480)
        assert heat[bright][:3].sum() > 600
        assert heat[dim][:3].sum() < 60
        assert heat[bright][3] < heat[dim][3] < 0.6 * 255  # the photo stays visible
    page.locator('#found .chip[data-label="blue, dark"]').click()
    page.wait_for_selector("#heat", state="hidden")


def test_page__asks_for_the_map_of_a_label_below_its_threshold(open_page: Callable[..., Any]) -> None:
    page = open_page()
    give(page, ("photo.png", MAGENTA))
    page.locator("#below summary").click()
    page.locator('#missed .chip[data-label="green"]').click()
    page.wait_for_selector("#heat", state="visible")


def test_page__slider_moves_every_threshold(open_page: Callable[..., Any]) -> None:
    page = open_page()
    give(page, ("photo.png", png((255, 140, 0))))
    page.wait_for_selector("#found .chip")
    assert labels_found(page) == ["red", "green"]
    assert page.locator("#strictness-text").text_content() == "as tuned"
    move_slider(page, 100)
    assert labels_found(page) == []
    assert page.locator("#nothing").is_visible()
    assert page.locator("#strictness-text").text_content() == "thresholds +100 %"
    move_slider(page, 60)  # thresholds of 0.5 become 0.8
    assert labels_found(page) == ["red"]
    assert page.locator("#found .tick").evaluate("tick => tick.style.left") == "80%"
    move_slider(page, -100)
    assert labels_found(page) == ["red", "green", "blue, dark"]


def test_page__gallery_holds_several_photos_and_a_broken_one(open_page: Callable[..., Any]) -> None:
    page = open_page()
    give(page, ("one.png", MAGENTA), ("broken.png", b"no image at all"), ("two.png", TEAL))
    until(page, "document.querySelectorAll('.thumb.done').length == 2")
    thumbs = page.locator(".thumb")
    assert [thumbs.nth(index).get_attribute("aria-label") for index in range(3)] == [
        "one.png: red, blue, dark",
        "broken.png: not readable",
        "two.png: blue, dark, green",
    ]
    thumbs.nth(1).click()
    assert "It is not a JPEG, PNG, WebP" in page.locator("#problem").text_content()
    assert page.locator("#findings").is_hidden()
    page.keyboard.press("ArrowRight")
    assert labels_found(page) == ["blue, dark", "green"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("two.png")
    page.locator("#remove").click()
    assert page.locator(".thumb").count() == 2


def test_page__dark_is_as_the_system_is_until_somebody_chooses(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="dark")

    def brightness() -> int:
        return page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")

    assert brightness() < 60
    page.locator("#theme").click()
    assert brightness() > 200
    page.reload()
    page.wait_for_selector("#known-labels li")
    assert brightness() > 200


def test_page__takes_a_photo_of_20_megabytes(open_page: Callable[..., Any], tmp_path: Path) -> None:
    photo = tmp_path / "large.bmp"
    Image.new("RGB", (2700, 2600), (0, 255, 0)).save(photo)
    assert photo.stat().st_size > 20_000_000
    page = open_page()
    page.set_input_files("#files", photo)
    page.wait_for_selector("#found .chip")
    assert labels_found(page) == ["green"]
    assert page.locator("#name").text_content() == "large.bmp · 2700 × 2600"


def test_page__names_are_text_and_csv_runs_nothing(open_page: Callable[..., Any]) -> None:
    page = open_page(
        labels=(HOSTILE, "=1+1", 'quoted "name"'), permissions=["clipboard-read", "clipboard-write"]
    )
    page.wait_for_selector("#known-labels li")
    give(page, (f"{HOSTILE}.png", MAGENTA), ("=cmd.png", png((0, 255, 0))))
    until(page, "document.querySelectorAll('.thumb.done').length == 2")
    assert labels_found(page) == [HOSTILE, 'quoted "name"']
    assert page.locator("#name").text_content().startswith(HOSTILE)
    page.locator("#found .chip").first.click()
    page.wait_for_selector("#heat", state="visible")
    assert page.locator("img[src=x]").count() == 0

    with page.expect_download() as download:
        page.locator("#csv").click()
    head, first, second = download.value.path().read_text().splitlines()
    assert head == f'image,labels,error,score:{HOSTILE},score:=1+1,"score:quoted ""name"""'
    assert first.startswith(f'{HOSTILE}.png,"{HOSTILE}|quoted ""name""",,')
    assert second.startswith("'=cmd.png,'=1+1,,")

    page.locator("#copy").click()
    until(page, "document.getElementById('copy').textContent == 'Copied'")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert [row["image"] for row in copied] == [f"{HOSTILE}.png", "=cmd.png"]
    assert copied[1]["labels"] == ["=1+1"]


@pytest.mark.parametrize("way", ["paste", "drop", "camera"])
def test_page__takes_photos_pasted_dropped_and_from_the_camera(
    open_page: Callable[..., Any], way: str
) -> None:
    page = open_page()
    page.wait_for_selector("#known-labels li")
    if way == "camera":
        page.locator("#camera").click()
        until(page, "document.getElementById('video').videoWidth > 0")
        page.locator("#shoot").click()
    else:
        page.evaluate(
            """([way, data]) => {
                const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
                const held = new DataTransfer();
                held.items.add(new File([bytes], "held.png", { type: "image/png" }));
                const event = way === "paste"
                    ? new ClipboardEvent("paste", { clipboardData: held, bubbles: true })
                    : new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true });
                document.getElementById("drop").dispatchEvent(event);
            }""",
            [way, base64.b64encode(TEAL).decode()],
        )
    page.wait_for_selector("#findings", state="visible")
    assert page.locator(".chip").count() == 3


def test_page__asks_for_the_token(open_page: Callable[..., Any]) -> None:
    page = open_page(token="secret-1")
    page.wait_for_selector("#token-dialog[open]")
    page.locator("#token").fill("wrong")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('token').value == ''")
    page.wait_for_selector("#token-dialog[open]")
    page.locator("#token").fill("secret-1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#known-labels li")
    give(page, ("photo.png", MAGENTA))
    page.wait_for_selector("#found .chip")


def test_page__says_where_a_model_cannot_show_where_it_looked(open_page: Callable[..., Any]) -> None:
    page = open_page(ColourRuntime())
    give(page, ("photo.png", MAGENTA))
    page.wait_for_selector("#found .chip")
    assert page.locator("#hint").text_content() == "The head of this model has no attention maps."
    assert page.locator("#found .chip").first.is_disabled()


def test_page__can_be_used_with_the_keyboard_alone(open_page: Callable[..., Any]) -> None:
    page = open_page()
    give(page, ("photo.png", MAGENTA))
    page.wait_for_selector("#found .chip")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.label") == "red":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#heat", state="visible")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input:not([hidden])")].filter((node) =>
            !node.textContent.trim() && !node.getAttribute("aria-label") && !node.labels?.length).length"""
    )
    assert unnamed == 0
