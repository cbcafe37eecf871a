// SPDX-License-Identifier: ISC
// What all pages use: elements, calls, numbers as people read them, messages. Text never becomes markup: only text nodes are made.

export function h(tag, attrs, ...children) {
	return fill(document.createElement(tag), attrs, children);
}

export function svg(tag, attrs, ...children) {
	return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);
}

function fill(e, attrs, children) {
	for (const [k, v] of Object.entries(attrs || {})) {
		if (k.startsWith("on"))
			e.addEventListener(k.slice(2), v);
		else if (v === true)
			e.setAttribute(k, "");
		else if (v !== false && v !== null && v !== undefined)
			e.setAttribute(k, v);
	}
	e.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
	return e;
}

export class Failed extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
	}
}

// A call below /dashboard/api/. Throws Failed with the server's own words.
export async function api(path, { method = "GET", body, headers = {}, signal } = {}) {
	const h = { Accept: "application/vnd.heroku+json; version=3", ...headers };
	if (method !== "GET")
		h["X-Cowbell"] = "dashboard";
	if (body !== undefined)
		h["Content-Type"] = "application/json";
	let r;
	try {
		r = await fetch(`/dashboard/api/${path}`, { method, headers: h, body: body === undefined ? undefined : JSON.stringify(body), signal, credentials: "same-origin" });
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		throw new Failed(0, "The server cannot be reached.");
	}
	const text = await r.text();
	let json = null;
	try {
		json = text ? JSON.parse(text) : null;
	} catch { /* told below */ }
	if (!r.ok) {
		if (r.status === 401 && path !== "login")
			dispatchEvent(new Event("cowbell-login"));
		throw new Failed(r.status, json?.message || `The server answered ${r.status}.`);
	}
	return json;
}

// --- numbers -------------------------------------------------------------------
export function ms(v) {
	if (v === null || v === undefined || Number.isNaN(v))
		return "–";
	if (v >= 60000)
		return `${(v / 60000).toFixed(1)} min`;
	if (v >= 1000)
		return `${(v / 1000).toFixed(v < 10000 ? 2 : 1)} s`;
	return `${v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)} ms`;
}

// For axes: "10 ms", "1 s", without zeros that say nothing.
export function plain(format) {
	return (v) => format(v).replace(/\.0+(?=\s|$)/, "").replace(/(\.\d*[1-9])0+(?=\s|$)/, "$1");
}

export function bytes(v) {
	const units = ["B", "KB", "MB", "GB", "TB"];
	let i = 0;
	while (v >= 1024 && i < 4) {
		v /= 1024;
		i++;
	}
	return `${v >= 100 || i === 0 ? v.toFixed(0) : v.toFixed(1)} ${units[i]}`;
}

export function count(v) {
	return Number(v || 0).toLocaleString("en");
}

export function short(v) {
	return v >= 1e6 ? `${(v / 1e6).toFixed(1)}M` : v >= 1e4 ? `${(v / 1e3).toFixed(0)}k` : v >= 1e3 ? `${(v / 1e3).toFixed(1)}k` : Number.isInteger(v) ? String(v) : v.toFixed(1);
}

// A time element: "3 min ago", with the whole time to hover and to machines.
export function ago(at) {
	if (!at)
		return h("span", { class: "soft" }, "never");
	const s = Math.max(0, (Date.now() - at) / 1000), d = new Date(at);
	const text = s < 5 ? "just now" : s < 90 ? `${Math.round(s)} s ago` : s < 5400 ? `${Math.round(s / 60)} min ago` : s < 129600 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
	return h("time", { datetime: d.toISOString(), title: d.toLocaleString() }, text);
}

// --- messages --------------------------------------------------------------------
let timer;
export function say(text) {
	const e = document.getElementById("say");
	e.textContent = text;
	e.classList.add("on");
	clearTimeout(timer);
	timer = setTimeout(() => e.classList.remove("on"), 4500);
}

export function ask(text, yes) {
	const d = document.getElementById("ask");
	document.getElementById("ask-text").textContent = text;
	document.getElementById("ask-yes").textContent = yes;
	d.returnValue = "no";
	d.showModal();
	return new Promise((resolve) => d.addEventListener("close", () => resolve(d.returnValue === "yes"), { once: true }));
}

export function live(state) {
	const e = document.getElementById("live");
	e.classList.toggle("on", state === "live");
	e.lastElementChild.textContent = state;
}

// --- pieces of pages ---------------------------------------------------------------
export function pill(state) {
	return h("span", { class: `pill ${state}` }, state);
}

export function card(cls, title, ...content) {
	const head = h("header", {}, h("h2", {}, title));
	return { head, el: h("section", { class: `card ${cls}`, "aria-label": title }, head, ...content) };
}

export function tile(name) {
	const big = h("dd", { class: "big" }, "–"), sub = h("dd", { class: "sub" });
	return {
		el: h("dl", { class: "tile" }, h("dt", {}, name), big, sub),
		set(value, unit, below, bar) {
			big.replaceChildren(value, unit ? h("small", {}, ` ${unit}`) : "");
			sub.replaceChildren(...[below, bar].flat(2).filter(Boolean));
		},
	};
}

// parts: [[class, share of 1]]
export function bar(parts, label) {
	const e = svg("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label });
	let at = 0;
	for (const [cls, share] of parts) {
		const w = Math.min(100 - at, Math.max(0, share * 100));
		e.append(svg("rect", { class: cls, x: at, y: 0, width: w, height: 6 }));
		at += w;
	}
	return e;
}

export function legend(items) {
	return h("ul", { class: "legend" }, items.map(([cls, name]) => h("li", {}, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: cls, width: 10, height: 10, rx: 3 })), name)));
}
