#!/usr/bin/python3
# SPDX-License-Identifier: ISC
"""The dashboard in a headless Chromium, driven by the DevTools protocol: for dashboard.t, which starts the server.

    dashboard_browser.py URL TOKEN APP OUTDIR

Prints a TAP line body for each check ("ok NAME" or "not ok NAME # why") and writes screenshots below OUTDIR. APP answers requests, says a line for
each on its standard output, and /evil makes it say markup and terminal controls.
"""
import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import websockets

URL, TOKEN, APP, OUT = sys.argv[1:5]
PAGES = {"overview": "/dashboard", "apps": "/dashboard/apps", "app": f"/dashboard/apps/{APP}", "starts": "/dashboard/starts"}
OVERFLOWING = """[...document.querySelectorAll('main *, header *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wrap, .logs, svg')).slice(0, 3).map(e => e.tagName + '.' + e.className + ' ' + Math.round(e.getBoundingClientRect().right)).join('; ')"""
# Text whose contrast with what is behind it is less than 4.5 (3 for large text): WCAG 2.1's formula.
CONTRAST = """(() => {
	const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
	const lum = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((a, v, i) => a + v * [.2126, .7152, .0722][i], 0);
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
	const bad = new Set();
	for (const e of document.querySelectorAll('body *')) {
		const svg = e instanceof SVGElement;
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length || e.closest('[hidden], .skip, .say, noscript, title'))
			continue;
		const s = getComputedStyle(e);
		if (e.disabled)
			continue;
		const a = lum(parse(svg ? s.fill : s.color)), b = lum(behind(svg ? e.closest('svg').parentElement : e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < (parseFloat(s.fontSize) >= 24 ? 3 : 4.5))
			bad.add(`${e.tagName}.${e.getAttribute('class')} "${e.textContent.trim().slice(0, 20)}" ${ratio.toFixed(2)}`);
	}
	return [...bad].slice(0, 5).join('; ');
})()"""


def check(good, name, why=""):
	print(("ok " if good else "not ok ") + name + ("" if good else f" # {why}".replace("\n", " ")), flush=True)


class Browser:
	"""One tab."""

	def __init__(self, socket):
		self.socket, self.serial, self.answers = socket, 0, {}
		self.console, self.requests, self.failed = [], [], []

	async def reader(self):
		async for text in self.socket:
			m = json.loads(text)
			if "id" in m:
				self.answers.pop(m["id"]).set_result(m)
				continue
			p = m.get("params", {})
			if m["method"] == "Runtime.exceptionThrown":
				d = p["exceptionDetails"]
				self.console.append(d.get("exception", {}).get("description") or d["text"])
			elif m["method"] == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
				self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
			elif m["method"] == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"):
				self.console.append(f'{p["entry"]["text"]} {p["entry"].get("url", "")}')
			elif m["method"] == "Network.requestWillBeSent":
				self.requests.append(p["request"]["url"])

	async def call(self, method, **params):
		self.serial += 1
		self.answers[self.serial] = f = asyncio.get_running_loop().create_future()
		await self.socket.send(json.dumps({"id": self.serial, "method": method, "params": params}))
		m = await asyncio.wait_for(f, 20)
		if "error" in m:
			raise RuntimeError(f'{method}: {m["error"]["message"]}')
		return m["result"]

	async def js(self, expression):
		r = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
		if "exceptionDetails" in r:
			raise RuntimeError(r["exceptionDetails"].get("exception", {}).get("description", "script failed"))
		return r["result"].get("value")

	async def until(self, expression, seconds=10):
		end = time.time() + seconds
		while time.time() < end:
			try:
				v = await self.js(expression)
			except RuntimeError:
				v = None  # between two documents
			if v:
				return v
			await asyncio.sleep(.05)
		return None

	async def size(self, width, height, phone=False):
		await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)

	async def dark(self, on):
		await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}, {"name": "prefers-reduced-motion", "value": "reduce"}])

	async def key(self, key, code=None, text=None, shift=False):
		codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "End": 35, "/": 191}
		p = {"key": key, "code": code or key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 8 if shift else 0}
		text = text or {"Enter": "\r"}.get(key)
		await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **p, **({"text": text} if text else {}))
		await self.call("Input.dispatchKeyEvent", type="keyUp", **p)

	async def shot(self, name, full=True):
		await asyncio.sleep(.25)
		m = await self.call("Page.getLayoutMetrics")
		s = m["cssContentSize"]
		clip = {"clip": {"x": 0, "y": 0, "width": s["width"], "height": min(s["height"], 5000), "scale": 1}} if full else {}
		r = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full, **clip)
		with open(os.path.join(OUT, name + ".png"), "wb") as f:
			f.write(base64.b64decode(r["data"]))

	async def open(self, path):
		await self.call("Page.navigate", url=URL + path)
		await self.until("document.readyState === 'complete'")


def ask(path):
	"""A request to the app through the router."""
	r = urllib.request.Request(URL + path, headers={"Host": f"{APP}.localhost"})
	try:
		with urllib.request.urlopen(r, timeout=20) as a:
			return a.status
	except urllib.error.HTTPError as e:
		return e.code


async def log_in(b):
	await b.open("/dashboard")
	check(await b.until("document.activeElement.id === 'token'"), "without a session: the log-in page, its field has the focus")
	await b.shot("login", False)
	await b.call("Input.insertText", text="not-a-token")
	await b.key("Enter")
	check(await b.until("!document.querySelector('[role=alert]').hidden"), "a wrong token is refused with words")
	b.console = [c for c in b.console if "401" not in c]  # the browser tells of the refused call
	await b.js("document.activeElement.select()")
	await b.call("Input.insertText", text=TOKEN)
	await b.key("Enter")
	check(await b.until("document.querySelector('h1')?.textContent === 'Overview'"), "logged in by the keyboard alone")
	cookies = (await b.call("Network.getCookies", urls=[URL + "/dashboard"]))["cookies"]
	c = cookies[0] if len(cookies) == 1 else {}
	check(c.get("httpOnly") and c.get("sameSite") == "Strict" and c.get("path") == "/dashboard", "the cookie: HttpOnly, SameSite=Strict, for the dashboard only", cookies)
	check(await b.js("document.cookie") == "", "scripts do not see it")


async def overview(b):
	check(await b.until("document.querySelectorAll('.tile .big')[4].textContent !== '–'"), "tiles have figures")
	check(await b.until("document.querySelector('#live').classList.contains('on')"), "the page is live")
	before = await b.js("document.querySelectorAll('.tile')[1].textContent")
	for _ in range(15):
		ask("/")
	check(await b.until(f"document.querySelectorAll('.tile')[1].textContent !== {json.dumps(before)}"), "requests per second move by themselves", before)
	check(await b.until("document.querySelector('.chart path.s2').getAttribute('d').length > 100"), "a chart is drawn")
	await b.js("document.querySelector('.chart svg').focus()")
	await b.key("ArrowLeft")
	check(await b.until("[...document.querySelectorAll('.tip')].some(t => !t.hidden && /requests: /.test(t.textContent))"), "the arrow keys tell a chart's values")
	await b.key("Escape")


async def keyboard(b):
	await b.js("document.activeElement.blur(); document.body.focus()")
	await b.open("/dashboard")
	await b.until("!!document.querySelector('.tile')")
	await b.key("Tab")
	check(await b.js("document.activeElement.className") == "skip", "the first Tab: skip to the content")
	check(await b.js("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus can be seen")
	seen = []
	for _ in range(8):
		await b.key("Tab")
		seen.append(await b.js("document.activeElement.textContent.trim()"))
		if seen[-1] == "Apps":
			break
	await b.key("Enter")
	check(await b.until("document.querySelector('h1')?.textContent === 'Apps' && document.activeElement.tagName === 'H1'"), "Apps by Tab and Enter, the focus is on its heading", seen)
	check(await b.until("!!document.querySelector('tbody a.name')"), "apps are listed")
	await b.key("/", "Slash", "/")
	check(await b.until("document.activeElement.id === 'q'"), "/ goes to the search")
	await b.call("Input.insertText", text="no-such-app-at-all")
	check(await b.until("!document.querySelector('.empty').hidden"), "a search without results says so")
	await b.js("document.activeElement.select()")
	await b.call("Input.insertText", text=APP[:4])
	check(await b.until(f"document.querySelector('tbody a.name')?.textContent.startsWith({json.dumps(APP[:4])})"), "a search finds the app")
	await b.js(f"[...document.querySelectorAll('a.name')].find(a => a.textContent === {json.dumps(APP)}).focus()")
	await b.key("Enter")
	check(await b.until(f"document.querySelector('h1')?.textContent === {json.dumps(APP)}"), "the app by Enter")


async def one_app(b):
	check(await b.until("document.querySelectorAll('.logs div').length > 2"), "lines of the app are there")
	mark = f"/mark-{time.time_ns()}"
	ask(mark)
	check(await b.until(f"document.querySelector('.logs').textContent.includes({json.dumps(mark)})"), "a new line appears by itself")
	ask("/evil")
	check(await b.until("document.querySelector('.logs').textContent.includes('<img src=x')"), "markup in a line is text")
	check(await b.js("!document.querySelector('.logs img') && !window.evil"), "and nothing else")
	check(await b.js("[...document.querySelectorAll('.logs .a1')].some(e => /red/.test(e.textContent))"), "colours of terminals are shown")
	check(await b.until("!!document.querySelector('.pill.up')"), "instance and release are shown")
	check(not await b.js("document.querySelector('main').textContent.includes('top-secret-value')") and await b.js("document.querySelector('.vars').textContent.includes('SECRET')"), "config vars: names, no values")
	await b.js("[...document.querySelectorAll('button')].find(x => x.textContent === 'Show values').click()")
	check(await b.until("document.querySelector('.vars').textContent.includes('top-secret-value')"), "values when somebody asks")
	await b.js("[...document.querySelectorAll('button')].find(x => x.textContent === 'Hide values').click()")
	await b.js("[...document.querySelectorAll('button')].find(x => x.textContent === 'Maintenance on').click()")
	check(await b.until("document.querySelector('dialog').open"), "what visitors would notice is asked for first")
	await b.key("Escape")
	check(await b.until("!document.querySelector('dialog').open") and await b.js("[...document.querySelectorAll('button')].some(x => x.textContent === 'Maintenance on')"), "Escape leaves all as it was")
	await b.js("document.querySelector('[aria-label=\"One worker more\"]').click()")
	check(await b.until("document.querySelector('[aria-label=\"worker processes\"]').textContent === '1'"), "scaled by a button")
	await b.js("document.querySelector('[aria-label=\"One worker less\"]').click()")
	check(await b.until("document.querySelector('[aria-label=\"worker processes\"]').textContent === '0'"), "and back")
	releases = await b.js("document.querySelectorAll('[aria-label=Releases] tr').length")
	await b.js("[...document.querySelectorAll('button')].find(x => x.textContent === 'Roll back').click()")
	await b.until("document.querySelector('dialog').open")
	await b.js("document.querySelector('#ask-yes').click()")
	check(await b.until(f"document.querySelectorAll('[aria-label=Releases] tr').length > {releases}"), "rolled back: a new release is listed")
	await b.until("!document.querySelector('.say').classList.contains('on')", 8)


async def looks(b):
	for scheme in ("light", "dark"):
		await b.dark(scheme == "dark")
		for name, path in PAGES.items():
			await b.size(1280, 900)
			await b.open(path)
			await b.until("document.querySelector('#live').classList.contains('on')")
			await b.until("document.querySelectorAll('.card').length")
			await asyncio.sleep(.5)
			await b.shot(f"{name}-desktop-{scheme}")
			bad = await b.js(CONTRAST)
			check(not bad, f"{name}, {scheme}: contrast of all text", bad)
			await b.size(360, 740, True)
			await asyncio.sleep(.2)
			wide = await b.js("document.documentElement.scrollWidth > innerWidth")
			check(not wide, f"{name}, {scheme}: no horizontal scroll at 360 px", wide and await b.js(OVERFLOWING))
			await b.shot(f"{name}-phone-{scheme}")
	await b.dark(False)
	await b.size(1280, 900)


async def leave(b):
	await b.open("/dashboard")
	await b.until("!!document.querySelector('.tile')")
	await b.js("document.querySelector('#logout').click()")
	check(await b.until("document.activeElement.id === 'token'"), "logged out")
	check(not (await b.call("Network.getCookies", urls=[URL + "/dashboard"]))["cookies"], "the cookie is gone")


async def drive(port):
	with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as r:
		target = [t for t in json.load(r) if t["type"] == "page"][0]["webSocketDebuggerUrl"]
	async with websockets.connect(target, max_size=1 << 28) as socket:
		b = Browser(socket)
		reader = asyncio.ensure_future(b.reader())
		for domain in ("Page", "Runtime", "Log", "Network"):
			await b.call(domain + ".enable")
		await b.dark(False)
		await b.size(1280, 900)
		await log_in(b)
		await overview(b)
		await keyboard(b)
		await one_app(b)
		await looks(b)
		await leave(b)
		check(not b.console, "no errors and no warnings in the console", "; ".join(b.console[:4]))
		foreign = [u for u in b.requests if not u.startswith((URL + "/dashboard", "data:"))]
		check(not foreign, f"all {len(b.requests)} requests go to the dashboard", foreign[:3])
		reader.cancel()


def main():
	home = tempfile.mkdtemp(prefix="cowbell-chromium-")
	chromium = subprocess.Popen(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--hide-scrollbars",
		f"--user-data-dir={home}", "--remote-debugging-port=0", "--window-size=1280,900", "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": home})
	try:
		port, end = None, time.time() + 30
		while port is None and time.time() < end:
			try:
				with open(os.path.join(home, "DevToolsActivePort")) as f:
					port = int(re.match(r"\d+\n", f.read())[0])
			except (OSError, TypeError):
				time.sleep(.05)
		check(port, "Chromium has started")
		if port:
			asyncio.run(asyncio.wait_for(drive(port), 150))
	except Exception as e:  # noqa: BLE001  told as a failed check, with its place
		import traceback
		check(False, "the browser could be driven", f"{type(e).__name__}: {e} {traceback.format_exc()[-600:]}")
	finally:
		chromium.kill()
		chromium.wait()
		shutil.rmtree(home, ignore_errors=True)


main()
