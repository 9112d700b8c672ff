#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The report in a browser: headless Chromium, driven over the DevTools protocol with nothing but the standard library.

    browser_test.py PAVISE            makes a report with the program PAVISE and checks it, whole and broken on purpose
    browser_test.py --page FILE.html  checks a report that is there

The exit status is 0 where all is well, 77 (skipped) where there is no Chromium, unless PAVISE_REQUIRE_BROWSER is set.
"""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

SECONDS = 60  # of patience with any one answer


class Chromium:
    """One headless browser with one tab; `errors` and `requests` are what the tab said and asked for."""

    def __init__(self, program, scratch):
        to_browser, self.send_fd = os.pipe()
        self.receive_fd, from_browser = os.pipe()
        # The browser reads descriptor 3 and writes descriptor 4, whatever numbers these have here.
        inside = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_browser, from_browser)]

        def plumb():
            for number, fd in zip((3, 4), inside):
                os.dup2(fd, number)
                os.set_inheritable(number, True)

        self.log = open(scratch / "chromium.log", "w+b")
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
             f"--user-data-dir={scratch / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False, preexec_fn=plumb)
        for fd in (to_browser, from_browser, *inside):
            os.close(fd)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.errors = []
        self.requests = []
        self.loaded = False
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        os.close(self.send_fd)
        os.close(self.receive_fd)

    def message(self, until):
        while b"\0" not in self.buffer:
            if not select.select([self.receive_fd], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"no answer from the browser within {SECONDS} s")
            data = os.read(self.receive_fd, 1 << 16)
            if not data:
                self.log.seek(0)
                raise RuntimeError("the browser ended: " + self.log.read().decode(errors="replace")[-2000:])
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def take(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def __call__(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send_fd, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            answer = self.message(until)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.take(answer)

    def open(self, url):
        self.errors, self.requests, self.loaded = [], [], False
        self("Page.navigate", url=url)
        until = time.monotonic() + SECONDS
        while not self.loaded:
            self.take(self.message(until))

    def evaluate(self, expression):
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def press(self, key):
        code = {"Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "Home": 36, "End": 35, "Escape": 27}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def media(self, scheme):
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def width(self, pixels):
        self("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def picture(self, element):
        """What an element looks like, as a PNG in base64."""
        clip = self.evaluate(f"""(() => {{
          const r = {element}.getBoundingClientRect();
          return {{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height, scale: 1}};
        }})()""")
        return self("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]


SHOWN = """[...document.querySelectorAll(".sweep .image .frame")].filter((f) => f.checkVisibility())
           .map((f) => f.querySelector("img"))"""
FRAMES = SHOWN + ".map((i) => i.src)"


def check_slider(tab, fail):
    tab.evaluate("document.querySelector('.sweep input').focus()")
    steps = int(tab.evaluate("document.querySelector('.sweep input').max")) + 1
    images = tab.evaluate("document.querySelectorAll('.sweep .image').length")
    tab.press("Home")
    shown, words = [], []
    for step in range(steps):
        shown.append(tab.evaluate(FRAMES))
        words.append(tab.evaluate("document.querySelector('.sweep output').value"))
        if len(shown[-1]) != images:
            fail(f"slider at step {step}: {len(shown[-1])} pictures, expected one for each of {images} images")
        tab.press("ArrowRight")
    if steps < 2 or any(a == b for a, b in zip(shown, shown[1:])):
        fail("slider: the pictures are the same at two of its steps")
    changed = next((i for i, (a, b) in enumerate(zip(shown[0], shown[-1])) if a != b), None)
    if changed is not None:
        last = tab.picture(f"{SHOWN}[{changed}]")
        tab.press("Home")
        if tab.picture(f"{SHOWN}[{changed}]") == last:
            fail("slider: what is drawn does not change")
    if len(set(words)) != steps or not all(re.fullmatch("ε = [0-9.e-]+", w) for w in words):
        fail(f"slider: its words are {words}, expected a radius for each of {steps} steps")


def check_keyboard(tab, fail):
    tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    reached = set()
    for _ in range(200):
        tab.press("Tab")
        reached.add(tab.evaluate("""(() => { const e = document.activeElement;
          return e.id === "theme" ? "button" : e.type === "range" ? "slider" : e.closest(".pv-chart") ? "chart" :
                 e.localName; })()"""))
    for what in ("button", "slider", "chart", "a", "summary"):
        if what not in reached:
            fail(f"keyboard: Tab does not reach a {what}")
    tab.evaluate("document.querySelector('#charts .pv-chart [tabindex=\"0\"]').focus()")
    tips = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        tab.press(key)
        tips.append(tab.evaluate("document.getElementById('tip').checkVisibility() && document.getElementById('tip').textContent"))
    if not all(t and "95 % interval" in t for t in tips) or tips[0] == tips[1] or tips[0] != tips[2]:
        fail(f"tooltips by keyboard: got {tips}, expected two points with their intervals")
    tab.press("Escape")
    if tab.evaluate("document.getElementById('tip').checkVisibility()"):
        fail("tooltips: Escape does not close one")


def check_colours(tab, fail):
    def paper():
        return tab.evaluate("[document.body, document.querySelector('.pv-chart')].map((e) => getComputedStyle(e))"
                            ".map((s, i) => i ? s.getPropertyValue('--pv-ink') : s.backgroundColor).join(' ')")

    tab.media("light")
    light = paper()
    tab.media("dark")
    dark = paper()
    press = "document.getElementById('theme').click()"
    tab.evaluate(press)
    if dark == light or paper() != light:
        fail(f"colours: light {light}, dark {dark}, and the button in the dark gives {paper()}")
    tab.media("light")
    tab.evaluate(press)
    if paper() != dark:
        fail(f"colours: the button in the light gives {paper()}, expected {dark}")
    tab.evaluate(press)


def check_print(tab, fail):
    pdf = base64.b64decode(tab("Page.printToPDF", printBackground=True)["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    pictures = len(re.findall(rb"/Subtype\s*/Image\b", pdf))
    frames = tab.evaluate("new Set([...document.querySelectorAll('.sweep .frame img')].map((i) => i.src)).size")
    if not pdf.startswith(b"%PDF") or pages < 2 or not re.search(rb"/Type\s*/Font\b", pdf) or pictures < frames:
        fail(f"print: {len(pdf)} bytes, {pages} pages, {pictures} pictures, expected text and all {frames} frames")


def check(tab, page):
    """All that is wrong with the page, in words."""
    failures = []
    fail = failures.append
    tab.media("light")
    tab.width(1200)
    tab.open(page.as_uri())
    if not tab.evaluate("document.querySelector('.sweep') && document.querySelector('#families') && true"):
        return [f"the page has no slider or no table of families; the console: {tab.errors}"]
    for part in (check_slider, check_keyboard, check_colours):
        try:
            part(tab, fail)
        except RuntimeError as error:
            fail(f"{part.__name__}: {error}")
    check_print(tab, fail)
    tab.width(390)
    wide = tab.evaluate("document.documentElement.scrollWidth")
    if wide > 390:
        fail(f"narrow: the page is {wide} pixels wide on a screen of 390")
    failures += [f"console: {error}" for error in tab.errors]
    outside = [u for u in tab.requests if u != page.as_uri() and not u.startswith("data:")]
    if outside:
        fail(f"network: the page asked for {outside}")

    tab("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(page.as_uri())
    every = tab.evaluate("document.querySelectorAll('.sweep .image .frame').length")
    seen = len(tab.evaluate(FRAMES))
    if seen != every or tab.evaluate("document.querySelector('.slider').checkVisibility()"):
        fail(f"without a script {seen} of {every} frames show, expected all, and no slider")
    tab("Emulation.setScriptExecutionDisabled", value=False)
    return failures


# Pages broken on purpose: what is changed, and the words in which the check has to find it out. The policy lets no other
# script run than the page's own; where that one is changed, the policy goes.
POLICY = r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>"
FAULTS = {
    "a script that throws": ([(POLICY, ""), (r'"use strict";', '"use strict"; setTimeout(() => nowhere());')],
                             "nowhere is not defined"),
    "a foreign script": ([("</body>", "<script>document.title = 'taken'</script></body>")], "Content Security Policy"),
    "a picture from elsewhere": ([("<nav", '<img src="picture.png" alt=""><nav')], "Content Security Policy"),
    "a slider without effect": ([(POLICY, ""), (r"=== slider\.value", '=== "0"')], "the pictures are the same"),
    "an empty print": ([("</style>", "@media print{body{display:none}}</style>")], "print: "),
    "a page too wide": ([("<h1>", '<h1 style="width:700px">')], "narrow: "),
    "no dark colours": ([("prefers-color-scheme:dark", "prefers-color-scheme:none")], "colours: "),
}


def make_report(program, directory):
    """A small report of two models, from the program itself."""
    def pavise(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"FAILED: pavise {' '.join(arguments)}: {done.stderr}")

    for name, *defense in (("plain", "none"), ("pgd", "pgd", "--steps", "2", "--eps", "0.1")):
        model = directory / "runs" / f"{name}.safetensors"
        shared = ["--data", "drawn-digits", "--quiet"]
        pavise("train", *shared, "--train-count", "1280", "--epochs", "2", "--defense", *defense, "--out", model)
        pavise("attack", *shared, "--model-file", model, "--attack", "pgd", "--steps", "5", "--eps", "0.1", "--count", "100",
               "--curve", "0,0.05,0.1,0.2", "--gallery", "4", "--json", directory / "runs" / f"{name}.json")
    pavise("report", "--in", directory / "runs", "--out", directory / "report")
    return directory / "report" / "index.html"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", help="the `pavise` program")
    parser.add_argument("--page", help="a report that is there")
    options = parser.parse_args()
    if not options.program and not options.page:
        parser.error("expected the program, or --page")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("PAVISE_REQUIRE_BROWSER"):
            sys.exit("FAILED: chromium is not installed")
        print("SKIPPED: chromium is not installed (Debian: apt-get install chromium)")
        sys.exit(77)
    failed = False
    with tempfile.TemporaryDirectory(prefix="pavise-browser-", ignore_cleanup_errors=True) as name:
        scratch = pathlib.Path(name)
        page = pathlib.Path(options.page).resolve() if options.page else make_report(options.program, scratch)
        tab = Chromium(browser, scratch)
        try:
            failures = check(tab, page)
            for failure in failures:
                print(f"FAILED: {failure}")
            failed = bool(failures)
            print(f"{page.name}: {page.stat().st_size} bytes, {len(failures)} failures")
            for fault, (changes, words) in FAULTS.items() if options.program else ():
                text = page.read_text()
                for pattern, replacement in changes:
                    text, count = re.subn(pattern, lambda _, r=replacement: r, text)
                    if count == 0:
                        sys.exit(f"FAILED: {fault}: {pattern} is not on the page")
                broken = scratch / "broken.html"
                broken.write_text(text)
                found = check(tab, broken)
                seen = any(words in failure for failure in found)
                failed = failed or not seen
                print(f"{'found' if seen else 'FAILED, not found'}: {fault}: {found[:2]}")
        finally:
            tab.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
