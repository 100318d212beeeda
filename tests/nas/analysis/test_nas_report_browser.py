"""The page in headless Chromium: sections, sorting, theme, points, and neither a console message nor a request."""

import json
import shutil

import numpy as np
import pytest
from analysis_runs import row, write_run
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from nas.analysis import analyse, report
from search_spaces import SPACES

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    rows = [
        row(SPACES.get("fcos_fpn").sample(rng).tokens, -float(reward), params=1e6 + number, macs=1e9, started=number)
        for number, reward in enumerate(rng.permutation(np.arange(1, 25)))
    ]
    report.write([analyse(write_run(root / "run", rows, "fcos_fpn"))], root)
    return (root / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """The page just opened, in the system's theme; what it logged and asked for is checked at the end."""
    chromium.get_log("browser"), chromium.get_log("performance")
    chromium.get(page)
    chromium.execute_script("localStorage.clear()")
    chromium.refresh()
    yield chromium
    assert chromium.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url.split("#")[0] for url in sent if not url.startswith("data:")} == {page}


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def set_system_theme(browser, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def test_every_section_is_reached_from_its_link(browser):
    links = browser.find_elements(By.CSS_SELECTOR, "nav a")
    assert len(links) == 12
    for link in links:
        link.send_keys(Keys.ENTER)
        section = browser.find_element(By.ID, link.get_attribute("href").split("#")[1])
        heading = section.find_element(By.TAG_NAME, "h2")
        assert heading.text == link.text
        assert heading.is_displayed()
        assert browser.current_url.endswith(f"#{section.get_attribute('id')}")


def column(table, number):
    return [
        cell.get_attribute("textContent") for cell in table.find_elements(By.CSS_SELECTOR, f"td:nth-child({number})")
    ]


def test_tables_sort_by_numbers_and_by_text_from_the_keyboard(browser):
    browser.find_element(By.CSS_SELECTOR, "#reward details summary").send_keys(Keys.ENTER)
    table = browser.find_element(By.CSS_SELECTOR, "#reward table")
    headers = table.find_elements(By.TAG_NAME, "th")
    names = [header.text.split()[0] for header in headers]
    number = names.index("reward") + 1
    button = headers[number - 1].find_element(By.TAG_NAME, "button")
    for order in ("ascending", "descending"):
        button.send_keys(Keys.ENTER)
        values = [float(text.replace("−", "-")) for text in column(table, number)]
        assert values == sorted(values, reverse=order == "descending")
        assert len(values) == 24
        assert headers[number - 1].get_attribute("aria-sort") == order
    effects = browser.find_element(By.CSS_SELECTOR, "#effects table")
    option = effects.find_elements(By.TAG_NAME, "th")[2]
    option.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    texts = column(effects, 3)
    assert texts == sorted(texts, key=str.lower)
    assert len(set(texts)) == len(texts)


def test_empty_cells_come_last_whichever_way(browser):
    table = browser.find_element(By.CSS_SELECTOR, "#effects table")
    headers = table.find_elements(By.TAG_NAME, "th")
    browser.execute_script("arguments[0].rows[1].cells[5].dataset.value = ''", table)
    for _ in range(2):
        headers[5].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        last = browser.execute_script("return arguments[0].tBodies[0].lastElementChild.cells[5].dataset.value", table)
        assert last == ""


def test_the_theme_is_the_systems_until_it_is_switched_and_then_remembered(browser):
    set_system_theme(browser, "light")
    light = background(browser)
    button = browser.find_element(By.CLASS_NAME, "theme")
    assert (light, button.text) == ("rgb(255, 255, 255)", "Dark theme")
    set_system_theme(browser, "dark")
    dark = background(browser)
    assert dark != light
    WebDriverWait(browser, 5).until(lambda _: button.text == "Light theme")
    button.send_keys(Keys.ENTER)
    assert (background(browser), button.text) == (light, "Dark theme")
    browser.refresh()
    assert background(browser) == light
    browser.find_element(By.CLASS_NAME, "theme").click()
    assert background(browser) == dark
    set_system_theme(browser, "light")
    assert background(browser) == dark


def test_points_tell_their_values_to_the_pointer_and_to_the_keyboard(browser):
    figure = browser.find_element(By.ID, "plot-reward-fcos_fpn")
    svg, tip = figure.find_element(By.TAG_NAME, "svg"), figure.find_element(By.CLASS_NAME, "tip")
    told = json.loads(figure.find_element(By.TAG_NAME, "script").get_attribute("textContent"))
    assert not tip.is_displayed()
    browser.execute_script("arguments[0].focus()", svg)
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    trial, reward = told["points"][1][3:]
    assert tip.text.splitlines() == ["done", f"trial: {trial}", f"reward: {reward:g}"]
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", svg)
    point = told["points"][5]
    script = "const [s, x, y] = arguments, p = new DOMPoint(x, y).matrixTransform(s.getScreenCTM()); return [p.x, p.y]"
    x, y = browser.execute_script(script, svg, point[1], point[2])
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()
    assert f"trial: {point[3]}" in tip.text


def test_a_narrow_screen_needs_no_sideways_scrolling_of_the_page(browser):
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.find_element(By.CSS_SELECTOR, "nav a").is_displayed()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
