"""The page as a person works with it: what the browser tests do to it, in words."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headless_browser import faults
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


class Page:
    """The workbench in a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.wait(lambda: self.js("return tomostream.bench.state !== null"), "the page has its state")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, is_so: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                found = is_so()
            except Exception:  # the page is loading
                found = False
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}; messages: {self.messages()}")

    def messages(self) -> list[str]:
        return [one.text for one in self.driver.find_elements(By.CSS_SELECTOR, ".notice")]

    def wait_for_slice(self, seconds: float = 60) -> None:
        """Wait until all tiles of the main slice are drawn."""
        self.wait(lambda: self.canvas().get_attribute("data-whole") == "true", "the slice is whole", seconds)

    def canvas(self, axis: str = "z") -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, f"canvas[data-axis={axis}]")

    def element(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.element(selector).text)

    def tab(self, name: str) -> None:
        self.element(f"#tab-{name}").click()

    def go_to(self, z: float, y: float, x: float) -> None:
        self.js("tomostream.bench.goTo({z: arguments[0], y: arguments[1], x: arguments[2]})", z, y, x)
        time.sleep(0.1)

    def screen_of(self, y: float, x: float, axis: str = "z") -> tuple[int, int]:
        """Offset of a voxel of the main slice from the canvas's middle, pixels."""
        zoom, centre = self.js("return [tomostream.bench.zoom, {...tomostream.bench.centre}]")
        return round((x - centre["x"]) * zoom), round((y - centre["y"]) * zoom)

    def click_voxel(self, y: float, x: float) -> None:
        dx, dy = self.screen_of(y, x)
        ActionChains(self.driver, duration=0).move_to_element_with_offset(self.canvas(), dx, dy).click().perform()

    def drag_voxel(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        dx, dy = self.screen_of(*start)
        ex, ey = self.screen_of(*stop)
        chain = ActionChains(self.driver, duration=20).move_to_element_with_offset(self.canvas(), dx, dy).click_and_hold()
        chain.move_by_offset((ex - dx) // 2, (ey - dy) // 2).move_by_offset(
            ex - dx - (ex - dx) // 2, ey - dy - (ey - dy) // 2
        ).release().perform()

    def wheel(self, steps: int) -> None:
        from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

        ActionChains(self.driver, duration=0).scroll_from_origin(ScrollOrigin.from_element(self.canvas()), 0, 100 * steps).perform()

    def keys(self, *keys: str, target: str = "canvas[data-axis=z]") -> None:
        self.element(target).send_keys(*keys)

    def chord(self, *keys: str) -> None:
        chain = ActionChains(self.driver, duration=0)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            chain.key_up(key)
        chain.perform()

    def undo(self) -> None:
        self.chord(Keys.CONTROL, "z")

    def clicks(self) -> list[dict[str, Any]]:
        return list(self.js("return tomostream.bench.clicks"))

    def wait_saved(self) -> None:
        self.wait(lambda: self.js("return tomostream.bench.isSaved"), "the clicks are saved")

    def fill(self, selector: str, value: str) -> None:
        field = self.element(selector)
        field.clear()
        field.send_keys(value)

    def shot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.js("tomostream.bench.notices = []; document.activeElement?.blur()")
        time.sleep(0.1)
        self.driver.save_screenshot(str(path))

    def faults(self) -> list[str]:
        return faults(self.driver)
