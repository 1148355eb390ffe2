"""The page in a browser: sorting, filtering, keyboard, colours, paper, and silence on console and network."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.records.run_record import Failure
from benchmark.report.build import build
from tests.benchmark.report import fake
from tests.benchmark.report.conftest import IN_PAGE

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra `test`")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,  # a browser starts for seconds; test_html.py looks at the page itself every day
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None, reason="needs Chromium and its chromedriver, which are not installed here"
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with failures, missing values and curves."""
    folder = fake.write_study(tmp_path_factory.mktemp("results") / "quick")
    for run in folder.glob("runs/*/*/*"):
        fake.write_history(run, [0.9, 0.5, 0.4, 0.45])
    failure = Failure(kind="nan_loss", message="<b>the loss became NaN</b>", log="step 37")
    for repeat in range(3):
        fake.write_run(folder, "hrnet", ["omc-syn"], repeat, None, failure)
    build(folder, plots=IN_PAGE)
    return folder / "report/index.html"


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1366, 768)
    driver.get(page.as_uri())
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> Iterator[None]:
    """Load the page anew after a test that changed it."""
    yield
    if "browser" in request.fixturenames:
        driver = request.getfixturevalue("browser")
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        driver.refresh()


TABLE = "document.querySelector('#accuracy table')"
DIFFERENCES = "document.querySelector('#significance table:not(.plain)')"


def column(browser: webdriver.Chrome, index: int, table: str = TABLE) -> list[str]:
    """Return the visible texts of a column of a table, without spreads."""
    return browser.execute_script(
        f"return [...{table}.tBodies[0].rows].filter(r => !r.hidden && !r.classList.contains('fam'))"
        ".map(r => r.cells[arguments[0]].firstChild.textContent.trim())",
        index,
    )


def head(browser: webdriver.Chrome, index: int, table: str = TABLE) -> webdriver.remote.webelement.WebElement:
    return browser.execute_script(f"return {table}.tHead.rows[0].cells[arguments[0]]", index)


def test_nothing_is_requested_and_the_console_is_silent(browser: webdriver.Chrome, page: Path) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in requested
    assert all(url.startswith(("file:", "data:")) for url in requested)
    assert browser.get_log("browser") == []


def test_numbers_are_sorted_as_numbers_and_missing_ones_stay_last(browser: webdriver.Chrome) -> None:
    before = column(browser, 0)
    button = head(browser, 1).find_element("tag name", "button")
    for order, reverse in (("descending", True), ("ascending", False)):
        button.click()
        assert head(browser, 1).get_attribute("aria-sort") == order
        texts = column(browser, 1)
        values = [float(text) for text in texts if text != "–"]
        assert values == sorted(values, reverse=reverse)
        assert texts[-1] == "–"
        assert column(browser, 0)[-1] == "HRNet-W48"
    button.click()
    assert head(browser, 1).get_attribute("aria-sort") == "none"
    assert column(browser, 0) == before


def test_signs_count_too(browser: webdriver.Chrome) -> None:
    browser.find_element("css selector", "#significance summary").click()
    button = head(browser, 2, DIFFERENCES).find_element("tag name", "button")
    assert button.text == "Difference"
    browser.execute_script("arguments[0].click()", button)
    values = [float(text.replace("−", "-")) for text in column(browser, 2, DIFFERENCES) if text != "–"]
    assert values == sorted(values)
    assert values[0] < 0 < values[-1]


def test_keyboard_sorts_and_reaches_points(browser: webdriver.Chrome) -> None:
    keys = webdriver.Keys
    button = head(browser, 0).find_element("tag name", "button")
    browser.execute_script("arguments[0].focus()", button)
    webdriver.ActionChains(browser).send_keys(keys.ENTER).perform()
    names = column(browser, 0)
    assert names == sorted(names, key=str.lower)
    webdriver.ActionChains(browser).send_keys(keys.TAB).perform()
    focused = browser.switch_to.active_element
    assert focused.text.startswith("mIoU")
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"

    first = browser.find_element("css selector", "figure.plot .pt[tabindex='0']")
    browser.execute_script("arguments[0].focus()", first)
    tip = browser.find_element("id", "tip")
    raised = tip.text
    assert re.search(r": mIoU .* 95 % interval \[[\d.]+, [\d.]+\]; repeats: [\d., ]+$", raised)
    webdriver.ActionChains(browser).send_keys(keys.ARROW_DOWN).perform()
    assert tip.text != raised
    webdriver.ActionChains(browser).send_keys(keys.ESCAPE).perform()
    assert not tip.is_displayed()


def test_model_is_highlighted_in_all_plots_and_tables(browser: webdriver.Chrome) -> None:
    lit = """
        const section = document.getElementById(arguments[0]);
        const shapes = [...section.querySelectorAll('.lit .pt')];
        const bright = shapes.filter(shape => getComputedStyle(shape).opacity === '1').map(shape => shape.dataset.m);
        const rows = [...section.querySelectorAll('tr.on')].map(row => row.dataset.m);
        return [[...new Set(bright)], shapes.length > bright.length, [...new Set(rows)]];
    """
    shape = browser.find_element("css selector", "#accuracy .drawn .pt[data-m='letnet']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", shape)
    webdriver.ActionChains(browser).move_to_element(shape).perform()
    assert browser.find_element("id", "tip").text.startswith("LETNet: mIoU (%), image reduction ")
    for section in ("accuracy", "electrical", "training"):
        assert browser.execute_script(lit, section) == [["letnet"], True, ["letnet"] * (section != "training")]
    label = browser.find_element("css selector", "#accuracy .drawn .pt[data-m='fcn']:not([aria-label])")
    webdriver.ActionChains(browser).move_to_element(label).perform()
    assert browser.find_element("id", "tip").text.startswith("FCN: mIoU")


def test_filter_reaches_tables_plots_and_curves(browser: webdriver.Chrome) -> None:
    box = browser.find_element("id", "models")
    assert box.accessible_name.strip() == "Models"  # some browsers keep the space between label and field
    box.send_keys("unet, eal")
    assert column(browser, 0) == ["EAL-ICNet", "UNet", "EUNet++"]
    for section in ("accuracy", "electrical", "training"):
        models = "return [...new Set([...document.querySelectorAll(arguments[0])].map(e => e.dataset.m))].sort()"
        kept = browser.execute_script(models, f"#{section} .drawn .pt:not(.off)")
        assert kept == ["eal_icnet", "unet", "unetpp"]
        assert "fcn" in browser.execute_script(models, f"#{section} .drawn .pt.off")
    assert "rows" in browser.find_element("id", "count").text
    # Headings of families without a row go; sorting keeps the filter.
    headings = f"return [...{TABLE}.querySelectorAll('.fam')].filter(r => !r.hidden).map(r => r.textContent.trim())"
    assert browser.execute_script(headings) == ["Method under test", "IC networks"]
    head(browser, 1).find_element("tag name", "button").click()
    assert len(column(browser, 0)) == 3

    browser.execute_script(
        "const box = document.getElementById('dataset'); box.value = 'miic-syn';box.dispatchEvent(new Event('change'))"
    )
    shown = browser.find_elements("css selector", "#accuracy [data-dataset]:not([hidden])")
    assert {one.get_attribute("data-dataset") for one in shown} == {"miic-syn"}


def test_nothing_overlaps_and_nothing_is_wider_than_the_window(browser: webdriver.Chrome) -> None:
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    overlaps = browser.execute_script(
        """
        const found = [];
        for (const plot of document.querySelectorAll('figure svg')) {
          const place = text => [text.textContent, text.getBoundingClientRect()];
          const texts = [...plot.querySelectorAll('text')].map(place);
          texts.forEach(([name, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
            const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (width > 1 && height > 3) found.push([name, other]);
          }));
        }
        return found;
        """
    )
    assert overlaps == []


def test_dark_is_dark_and_paper_is_white_with_whole_tables(browser: webdriver.Chrome) -> None:
    colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"

    def lightness() -> list[int]:
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) // 3 for colour in browser.execute_script(colours)]

    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    paper, ink = lightness()
    assert paper < 40
    assert ink > 200
    plot = """
        const svg = document.querySelector('#accuracy .drawn');
        const [paper, text] = [svg.querySelector('path'), svg.querySelector('text')].map(getComputedStyle);
        return [paper.fill, text.fill, text.fontFamily];
    """
    background, name, face = browser.execute_script(plot)
    assert (background, name) == tuple(browser.execute_script(colours))
    assert face.startswith('"DejaVu Sans"')
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [feature]})
    assert lightness() == [255, 0]
    assert not browser.find_element("id", "tools").is_displayed()
    browser.execute_cdp_cmd(  # 186 mm between the margins of A4, at 96 px per inch
        "Emulation.setDeviceMetricsOverride", {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    cut = browser.execute_script(
        "return [...document.querySelectorAll('.block:not(.wide) table')].filter("
        "t => t.getBoundingClientRect().right > document.documentElement.clientWidth).map(t => t.caption.textContent)"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert cut == []
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")


def test_without_scripts_everything_is_there(browser: webdriver.Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    assert not browser.find_element("id", "tools").is_displayed()
    assert browser.find_element("css selector", "#accuracy table").is_displayed()
    assert browser.find_element("css selector", "figure.plot svg").is_displayed()
    assert browser.find_element("css selector", ".pt title").get_attribute("textContent")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_definitions_take_the_whole_width_of_a_phone(browser: webdriver.Chrome) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    left = "return [...document.querySelectorAll('dl dd')].map(dd => dd.getBoundingClientRect().left)"
    edges = set(browser.execute_script(left))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(edges) == 1
    assert max(edges) < 30
