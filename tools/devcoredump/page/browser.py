# SPDX-License-Identifier: GPL-2.0-only
"""browser.py PAGE TOOL GOLDEN PICTURES: uses the page as a person would, in headless Chromium, and
compares what it shows with what TOOL says.

PAGE is served by a plain server of static files; GOLDEN has dumps. The clone is the current
directory. Nothing may be said on the
console, and nothing may be asked for after the page has loaded, of this server or any other.
"""

import functools
import gzip
import http.server
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from pathlib import Path

PATIENCE = 120
LOG = """\
[   12.5] Linux version 6.12.0 (x)
[  100.5] msm_dpu 5e01000.display-controller: [drm:recover_worker [msm]] *ERROR* 7.0.2.0: hangcheck recover!
[  100.5] msm_dpu 5e01000.display-controller: [drm:recover_worker [msm]] *ERROR* 7.0.2.0: offending task: game (./game)
"""


class Server(http.server.ThreadingHTTPServer):
    """A plain one, that remembers what it was asked for."""

    def __init__(self, folder):
        self.asked = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, _format, *args):
                asked.append(self.path)

        super().__init__(
            ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
        )
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Browser:
    """Chromium, spoken to by the DevTools protocol through a pair of pipes."""

    def __init__(self, profile):
        theirs_in, self.out = os.pipe()
        self.back, theirs_out = os.pipe()
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            f"--user-data-dir={profile}", "--window-size=1200,1000",
        ]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium", *command],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""
        self.number = 0
        self.said = []
        self.requests = []
        # What Chromium renders for us: the page, and the frame with the report.
        self.sessions = {}

    def receive(self, until):
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.back], [], [], left)[0]:
                return None
            data = os.read(self.back, 1 << 20)
            if not data:
                raise SystemExit("Chromium is gone")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        return self.number

    def call(self, method, session=None, **params):
        number = self.send(method, session, **params)
        until = time.monotonic() + PATIENCE
        while message := self.receive(until):
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.event(message)
        raise SystemExit(f"Chromium doesn't answer {method}")

    def event(self, message):
        params = message.get("params", {})
        match message.get("method"):
            case "Target.attachedToTarget":
                session = params["sessionId"]
                self.sessions[session] = params["targetInfo"]
                for domain in ("Log", "Runtime", "Network", "Page"):
                    self.send(f"{domain}.enable", session)
                self.send(
                    "Target.setAutoAttach", session,
                    autoAttach=True, waitForDebuggerOnStart=True, flatten=True,
                )
                self.send("Runtime.runIfWaitingForDebugger", session)
            case "Target.detachedFromTarget":
                self.sessions.pop(params["sessionId"], None)
            case "Log.entryAdded":
                self.said.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.said.append(str([arg.get("value") for arg in params["args"]]))
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(params["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def evaluate(self, session, expression):
        answer = self.call(
            "Runtime.evaluate", session,
            expression=expression, awaitPromise=True, returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, what, done):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if answer := done():
                return answer
            time.sleep(0.05)
        raise SystemExit(f"waited {PATIENCE} s for {what}; console: {self.said}")


def check(holds, what):
    if not holds:
        raise SystemExit(f"FAIL: {what}")


def expected(tool, path):
    """The verdict of the tool, with how sure it is."""
    done = subprocess.run(
        ["scripts/in-root", "--", tool, "explain", "--quiet", path],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    return done.stdout.splitlines()[0].removeprefix("Verdict:").strip()


class Page:
    def __init__(self, browser, url):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.call("Page.navigate", self.session, url=url)
        browser.until("the page", lambda: self.text("message") == "" or self.complaint())

    def complaint(self):
        text = self.text("message")
        check("work" not in (text or ""), text)

    def text(self, name):
        return self.browser.evaluate(self.session, f"document.getElementById('{name}')?.textContent")

    def drop(self, path):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.browser.call("Input.dispatchDragEvent", self.session, type=kind, x=600, y=500, data=data)

    def choose(self, path):
        root = self.browser.call("DOM.getDocument", self.session)["root"]["nodeId"]
        node = self.browser.call("DOM.querySelector", self.session, nodeId=root, selector="#file")
        self.browser.call("DOM.setFileInputFiles", self.session, files=[str(path)], nodeId=node["nodeId"])

    def paste(self, text):
        self.browser.evaluate(
            self.session,
            "{ const data = new DataTransfer(); data.setData('text/plain', "
            f"{json.dumps(text)}); document.body.dispatchEvent(new ClipboardEvent('paste', "
            "{ clipboardData: data, bubbles: true })) }",
        )

    def frame(self):
        """The report, as it is in the frame."""
        for session, info in self.browser.sessions.items():
            if info["type"] == "iframe":
                try:
                    root = self.browser.call("DOM.getDocument", session, depth=0)["root"]["nodeId"]
                    return self.browser.call("DOM.getOuterHTML", session, nodeId=root)["outerHTML"]
                except RuntimeError:
                    return ""
        document = self.browser.call("DOM.getDocument", self.session, depth=-1, pierce=True)["root"]
        waiting = [document]
        while waiting:
            node = waiting.pop()
            if node["nodeName"] == "IFRAME" and "contentDocument" in node:
                inner = node["contentDocument"]["nodeId"]
                return self.browser.call("DOM.getOuterHTML", self.session, nodeId=inner)["outerHTML"]
            waiting.extend(node.get("children", []))
        return ""

    def shows(self, name, verdict):
        """Waits for the verdict; `name` is what the file is called."""
        words = verdict.split(" (")[0]
        title = f"{words} – {name}"
        get = lambda: self.browser.evaluate(self.session, "document.title")
        self.browser.until(f"{title}, not {get()}", lambda: get() == title)
        heading = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)

        def heads():
            found = heading.search(self.frame())
            return found and re.sub("<[^>]*>", "", found[1]) == verdict

        self.browser.until(f"{verdict} in the report", heads)

    def picture(self, path):
        data = self.browser.call("Page.captureScreenshot", self.session, format="png")["data"]
        Path(path).write_bytes(b64decode(data))


def main():
    folder, tool, golden, pictures = (Path(arg).resolve() for arg in sys.argv[1:])
    server = Server(folder)
    address = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory(dir=pictures, ignore_cleanup_errors=True) as scratch:
        scratch = Path(scratch)
        browser = Browser(scratch / "profile")
        try:
            browser.call("Target.getTargets")
            page = Page(browser, address)
            page.picture(pictures / "page-start.png")
            loaded = sorted(server.asked)
            check(
                loaded == ["/", "/explain.js", "/msm-devcoredump.wasm", "/page.js"],
                f"it loads {loaded}",
            )
            asked = len(server.asked)
            requests = len(browser.requests)
            seen = [url for url in browser.requests if url.startswith(address)]
            check(len(seen) == asked, f"of its requests Chromium tells {seen}")
            dumps = sorted(golden.glob("*/*.zst"))
            for dump in dumps:
                page.drop(dump)
                page.shows(dump.name, expected(tool, dump))
            page.picture(pictures / "page-dump.png")

            log = scratch / "bug report"
            log.write_text(LOG)
            page.choose(log)
            page.shows("bug report", expected(tool, log))
            page.paste(LOG)
            page.shows("text", expected(tool, log))
            plain = subprocess.run(["zstd", "-dc", dumps[0]], capture_output=True, check=True).stdout
            twice = scratch / "twice.gz"
            twice.write_bytes(gzip.compress(plain + plain))
            page.drop(twice)
            page.shows("twice.gz", expected(tool, dumps[0]))
            buttons = "document.querySelectorAll('#documents button').length"
            check(browser.evaluate(page.session, buttons) == 2, "two documents have two buttons")
            broken = scratch / "broken"
            broken.write_bytes(twice.read_bytes()[:1000])
            page.drop(broken)
            browser.until("a complaint", lambda: page.text("message").startswith("broken: "))
            page.drop(dumps[0])
            page.shows(dumps[0].name, expected(tool, dumps[0]))

            outside = [
                url for url in browser.requests[requests:] if not url.startswith(("blob:", "data:"))
            ]
            check(not outside, f"requests for {outside}")
            check(not browser.said, f"on the console: {browser.said}")
            # The browser refuses what the page doesn't ask for, too.
            for attempt in (
                "fetch('/index.html')",
                "new Promise((sent, refused) => { const image = new Image(); image.onload = sent; "
                "image.onerror = refused; image.src = '/index.html' })",
            ):
                outcome = browser.evaluate(page.session, f"{attempt}.then(() => 'sent', () => 'refused')")
                check(outcome == "refused", f"{attempt} is {outcome}")
            check(browser.said, "Chromium says so on the console")
            check(len(server.asked) == asked, f"the server was asked for {server.asked[asked:]}")
            print(f"the page: {len(dumps)} dumps as the tool explains them, no requests, "
                  "nothing on the console")
        finally:
            browser.process.terminate()
            browser.process.wait()


main()
