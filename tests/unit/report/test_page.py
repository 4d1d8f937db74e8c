"""The page in a real browser, opened from disk with the network off; its numbers against evaluation's."""

import csv
import json

import numpy as np
import pytest
from playwright.sync_api import expect

from query2label.bundle import predicted
from query2label.evaluation.report import report_from_scores
from query2label.metrics import count_decisions, decision_metrics
from query2label.report.confusion import set_confusion
from query2label.report.embedded import STEPS, threshold_steps
from query2label.report.write import ReportOptions, write_report

from .conftest import save_model

HOSTILE = "<img src=x onerror=alert(1)>"
SET_STEP = (
    "(input, step) => { input.value = step; input.dispatchEvent(new Event('input', {bubbles: true})); }"
)


def percent(text):
    return None if text == "–" else float(text)


def rows_by_label(page):
    """The table's numbers: label -> (images, AP, threshold, P, R, F1, missed, false)."""
    found = {}
    for row in page.locator("table.labels tbody tr").all():
        cells = row.locator("th, td").all_inner_texts()
        numbers = [cell.replace(",", "").strip() for cell in cells]
        found[numbers[0]] = [percent(number) for number in [*numbers[1:3], *numbers[4:]]]
    return found


def metrics_shown(page):
    names = ("CP", "CR", "CF1", "OP", "OR", "OF1")
    return {name: percent(page.locator(f"#controls [data-metric={name}]").inner_text()) for name in names}


def next_frame(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def require_numbers(page, measured, thresholds):
    """Compares everything that follows the thresholds with evaluation, confusion and mistakes included."""
    next_frame(page)
    scores, targets, labels = measured.scores, measured.targets, measured.bundle.labels
    counts = count_decisions(scores, targets, thresholds=np.asarray(thresholds))
    expected = decision_metrics(counts).to_dict()
    for name, value in metrics_shown(page).items():
        assert value == pytest.approx(100 * expected[name], abs=0.0501), name
    report = report_from_scores(scores, targets, labels=labels, thresholds=thresholds, num_resamples=0)
    table = rows_by_label(page)
    chosen = predicted(scores, np.asarray(thresholds))
    for k, row in enumerate(report.per_label):
        images, ap, threshold, precision, recall, f1, missed, false = table[row.label]
        assert images == row.num_positives
        assert threshold == pytest.approx(thresholds[k], abs=0.00051)
        for shown, value in ((ap, row.ap), (precision, row.precision), (recall, row.recall), (f1, row.f1)):
            assert shown == (None if value is None else pytest.approx(100 * value, abs=0.0501))
        assert missed == int(((targets[:, k] == 1) & ~chosen[:, k]).sum())
        assert false == int(((targets[:, k] == 0) & chosen[:, k]).sum())
    by_count = page.locator("#by-count tbody tr").all()
    for shown_row, row in zip(by_count, report.by_num_labels, strict=True):
        name, images, ap, of1, number = shown_row.locator("th, td").all_inner_texts()
        assert (name, int(images)) == (row.num_labels, row.num_images)
        for shown, value in ((ap, row.map), (of1, row.of1)):
            assert percent(shown) == (None if value is None else pytest.approx(100 * value, abs=0.0501))
        assert float(number) == pytest.approx(row.predicted, abs=0.00501)
    require_confusion(page, set_confusion(chosen, targets), labels)
    totals = page.locator("#mistakes [role=tab]").all_inner_texts()
    assert totals == [
        f"Missed {int(sum(r[6] for r in table.values())):,}",
        f"False {int(sum(r[7] for r in table.values())):,}",
    ]


def require_confusion(page, confusion, labels):
    shown = [row.locator("th, td").all_inner_texts() for row in page.locator("table.pairs tbody tr").all()]
    expected = confusion.pairs(100)
    assert len(shown) == min(12, len(expected))
    by_pair = {(labels[a], labels[b]): count for a, b, count in expected}
    for missed, false, count in shown:
        assert float(count) == pytest.approx(by_pair[missed, false], abs=0.0501)
    kept = [float(count) for _, _, count in shown]
    assert kept == pytest.approx([count for _, _, count in expected[:12]], abs=0.0501)


def test_page__numbers_are_evaluations_at_every_threshold(open_page, report_folder, measured):
    page = open_page(report_folder)
    own = np.asarray(measured.bundle.thresholds)
    require_numbers(page, measured, own)
    page.locator("#half").click()
    require_numbers(page, measured, np.full(len(own), 0.5))
    moved = np.full(len(own), 0.5)
    for label, score in ((0, measured.scores[3, 0]), (2, measured.scores[9, 2]), (4, np.float32(1.0))):
        step = int(np.floor(score * STEPS))
        name = measured.bundle.labels[label]
        page.get_by_role("slider", name=f"Threshold of {name}", exact=True).first.evaluate(SET_STEP, step)
        moved[label] = step / STEPS
    require_numbers(page, measured, moved)
    page.locator("#all").evaluate(SET_STEP, STEPS // 3)
    require_numbers(page, measured, np.full(len(own), (STEPS // 3) / STEPS))
    page.locator("#own").click()
    require_numbers(page, measured, own)
    assert (threshold_steps(own) / STEPS != own).any()


def test_page__names_are_text_wherever_they_stand(open_page, report_folder, photos):
    page = open_page(report_folder)
    expect(page.locator("table.labels tbody th button", has_text=HOSTILE)).to_have_count(1)
    page.locator("#all").evaluate(SET_STEP, STEPS)  # so strict that every label of every image is missed
    page.locator("#which-label").select_option(label=HOSTILE)
    assert page.locator("#mistakes .card strong").first.inner_text() == HOSTILE
    page.locator("#which-label").select_option(label="all labels")
    while page.locator("#mistakes .gallery > button").is_visible():
        page.locator("#mistakes .gallery > button").click()
    expect(page.locator("#mistakes .file", has_text="<script>alert(2)").first).to_be_attached()
    assert page.locator("img[src=x], main script").count() == 0
    assert page.title() == f"first on {photos.name}"


def test_page__says_what_the_run_says_of_itself_and_which_labels_are_rare(open_page, photos, tmp_path):
    run = tmp_path / "run"
    save_model(run / "best")
    losses = {"train_loss": 2.0, "val_loss": 3.0}
    epochs = [{"epoch": number, "map": number / 4, "best": True, **losses} for number in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    (run / "evaluation").mkdir()
    said = f"4 of 9 validation images look like a training image {HOSTILE}."
    (run / "evaluation" / "report.json").write_text(json.dumps({"warnings": [said]}))
    options = ReportOptions(num_resamples=0, device="cpu", with_pictures=False)
    write_report([str(run)], photos, tmp_path / "report", options=options)
    page = open_page(tmp_path / "report")
    assert page.locator("#learning .note").all_inner_texts() == [said]
    rare = "Fewer than 10 images show, so that their numbers say little: bee & bird."
    assert page.locator("#data .note").all_inner_texts() == [rare]


def test_page__table_is_sorted_by_any_number_labels_without_it_last(open_page, report_folder):
    page = open_page(report_folder)
    head = page.locator("table.labels thead th")
    for place, name in ((1, "Images"), (2, "AP"), (5, "P"), (8, "Missed")):
        column = head.filter(has=page.get_by_role("button", name=name, exact=True))
        column.get_by_role("button").click()
        if name == "Images":  # it was sorted so
            column.get_by_role("button").click()
        for order in ("descending", "ascending"):
            expect(column).to_have_attribute("aria-sort", order)
            cells = page.locator("table.labels tbody tr").locator("th, td").all_inner_texts()
            values = [percent(cells[row + place].replace(",", "")) for row in range(0, len(cells), 10)]
            known = [value for value in values if value is not None]
            assert values == known + [None] * (len(values) - len(known))
            assert known == sorted(known, reverse=order == "descending")
            column.get_by_role("button").click()
    page.get_by_role("searchbox").fill("BEE")
    assert list(rows_by_label(page)) == ["bee & bird"]


def test_page__mistakes_are_shown_worst_first_with_where_the_model_looked(open_page, report_folder, measured):
    page = open_page(report_folder)
    page.locator("table.labels tbody button.link", has_text="cow").click()
    scores, targets = measured.scores[:, 2], measured.targets[:, 2]
    threshold = np.float32(np.floor(np.median(scores) * STEPS) / STEPS)
    page.locator("#mistakes .panel input[type=range]").evaluate(SET_STEP, int(threshold * STEPS))
    next_frame(page)
    missed = np.sort(scores[(targets == 1) & (scores < threshold)])
    false = np.sort(scores[(targets == 0) & (scores >= threshold)])[::-1]
    for kind, expected in (("Missed", missed), ("False", false)):
        page.locator("#mistakes [role=tab]", has_text=kind).click()
        shown = [float(text) for text in page.locator("#mistakes .card-heading .number").all_inner_texts()]
        assert shown == pytest.approx(expected[:12].tolist(), abs=0.0051)
        assert len(shown) == min(12, len(expected)) > 0
        expect(page.locator("#mistakes .card canvas")).to_have_count(len(shown))
    image = page.locator("#mistakes .card img").first
    assert image.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }") == 48
    canvas = page.locator("#mistakes .card canvas").first
    assert canvas.bounding_box() == image.bounding_box()
    pixels = canvas.evaluate("(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    assert max(pixels[3::4]) == 184  # 0.72 of 255, where it looked most
    page.get_by_label("where it looked (attention)").uncheck()
    expect(page.locator("#mistakes .card canvas")).to_have_count(0)


def test_page__marks_what_is_wrong_and_nothing_that_is_unknown(open_page, report_folder, measured):
    page = open_page(report_folder)
    page.locator("#all").evaluate(SET_STEP, 0)  # so loose that every label of every image is predicted
    next_frame(page)
    page.locator("#tab-wrong").click()
    names = list(map(str, page.evaluate("() => JSON.parse(content.textContent).images")))
    targets = measured.targets
    for card in page.locator("#mistakes .card").all()[:6]:
        row = names.index(card.locator(".file").get_attribute("title"))
        marked = set(card.locator(".wrong").all_inner_texts())
        assert marked == {measured.bundle.labels[k] for k in np.flatnonzero(targets[row] == 0)}
        assert len(card.locator("dd").nth(1).locator("li").all()) == targets.shape[1]


def test_page__works_by_keyboard(open_page, report_folder, measured):
    page = open_page(report_folder)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the labels"
    slider = page.get_by_role("slider", name="Threshold of ant", exact=True)
    slider.focus()
    page.keyboard.press("ArrowRight")
    moved = (round(threshold_steps(np.array(measured.bundle.thresholds))[0] + 0.01 * STEPS)) / STEPS
    expect(slider).to_have_attribute("aria-valuetext", f"{moved:.3f}")
    page.locator("table.labels tbody button.link", has_text="ant").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "which-label"
    assert page.locator("#which-label").input_value() == "0"
    page.locator("#tab-missed").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-wrong"
    expect(page.locator("#tab-wrong")).to_have_attribute("aria-selected", "true")
    inner = page.locator("#mistakes .panel input[type=range]")
    inner.focus()
    page.keyboard.press("PageDown")
    next_frame(page)
    assert inner.evaluate("(input) => input === document.activeElement")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page__is_light_or_dark_as_the_system_and_as_asked(open_page, report_folder, scheme):
    page = open_page(report_folder, scheme=scheme)
    lightness = "() => Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    before = page.evaluate(lightness)
    assert (before > 128) == (scheme == "light")
    page.locator("#theme").click()
    assert (page.evaluate(lightness) > 128) == (scheme == "dark")


def test_page__fits_a_phone(open_page, report_folder):
    page = open_page(report_folder, width=390)
    page.locator("#which-label").select_option(label="ant")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page__fits_a_phone_with_models_of_long_names(open_page, compared_folder):
    page = open_page(compared_folder, width=390)
    named = page.locator("#controls .tabs button").last
    named.evaluate("button => { button.textContent = 'lr=0.1_'.repeat(20); }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page__lets_nothing_in_but_its_own_program(browser, report_folder):
    context = browser.new_context()
    page = context.new_page()
    page.goto((report_folder / "index.html").as_uri())
    blocked = page.evaluate(
        """async () => {
            const found = [];
            const note = (event) => found.push(event.effectiveDirective);
            document.addEventListener('securitypolicyviolation', note);
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend', '<img src="http://127.0.0.1:9/x.png">');
            await fetch('http://127.0.0.1:9/').catch(() => null);
            await new Promise((done) => setTimeout(done, 50));
            return [window.ran === undefined, ...found.sort()];
        }"""
    )
    context.close()
    assert blocked == [True, "connect-src", "img-src", "script-src-elem"]


def test_page__compares_two_models(open_page, compared_folder):
    page = open_page(compared_folder)
    differences = page.locator("#differences tbody tr").first.locator("th, td").all_inner_texts()
    assert differences[0] == "mAP"
    tiles = []
    for name in ("A  first", "B  second"):
        page.locator("#controls").get_by_role("button", name=name).click()
        tiles.append(percent(page.locator(".tile.main .tile-value").inner_text()))
    assert float(differences[1]) == pytest.approx(tiles[1] - tiles[0], abs=0.11)
    expect(page.locator("#mistakes .check")).to_have_text("where it looked (Grad-CAM)")
    rights = page.locator("#alone h3").all_inner_texts()
    assert rights[0].startswith("A is right where B is not")
    with (compared_folder / "A" / "mistakes.csv").open(newline="") as file:
        first = {(row["image"], row["label"]) for row in csv.DictReader(file)}
    with (compared_folder / "B" / "mistakes.csv").open(newline="") as file:
        second = {(row["image"], row["label"]) for row in csv.DictReader(file)}
    assert [int(text.split(": ")[1].split()[0]) for text in rights] == [
        len(second - first),
        len(first - second),
    ]
