// SPDX-License-Identifier: ISC
// Lines of an app as they come. Colours of terminals (SGR) become classes; everything else of a line is text.
import { h } from "./ui.js";

const KEPT = 1500;

// "\x1b[1;31mtext\x1b[0m" -> spans
function coloured(text) {
	const out = [];
	let cls = [];
	for (const part of text.split(/(\x1b\[[\d;]*m)/)) {
		const m = /^\x1b\[([\d;]*)m$/.exec(part);
		if (!m) {
			if (part)
				out.push(cls.length ? h("span", { class: cls.join(" ") }, part) : part);
			continue;
		}
		for (const code of m[1].split(";").map(Number)) {
			if (code === 0 || code === 39)
				cls = code ? cls.filter((c) => c === "abold") : [];
			else if (code === 1)
				cls = [...cls, "abold"];
			else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97))
				cls = [...cls.filter((c) => c === "abold"), code === 90 ? "a8" : `a${code % 10}`];
		}
	}
	return out;
}

export function logView(path) {
	const box = h("div", { class: "logs mono", role: "log", tabindex: 0, "aria-label": "Lines of the app", "aria-live": "off" });
	const filter = h("input", { type: "search", placeholder: "Filter lines", "aria-label": "Filter lines", spellcheck: "false" });
	const pause = h("button", { type: "button", class: "mini", "aria-pressed": "false" }, "Pause");
	const kind = h("select", { "aria-label": "Which lines" }, [["", "all lines"], ["app", "the app's"], ["heroku", "the platform's"]].map(([v, n]) => h("option", { value: v }, n)));
	let waiting = [], paused = false, source;

	const wanted = (l) => (!kind.value || l.dataset.source === kind.value) && (!filter.value || l.textContent.toLowerCase().includes(filter.value.toLowerCase()));
	const apply = () => {
		for (const l of box.children)
			l.hidden = !wanted(l);
	};
	filter.addEventListener("input", apply);
	kind.addEventListener("change", apply);
	pause.addEventListener("click", () => {
		paused = !paused;
		pause.setAttribute("aria-pressed", String(paused));
		pause.textContent = paused ? "Go on" : "Pause";
		if (!paused)
			flush();
	});

	function line(e) {
		const at = new Date(e.t), el = h("div", { class: e.dyno === "logplex" ? "heroku lost" : e.source, "data-source": e.source }, h("time", { datetime: at.toISOString() }, at.toTimeString().slice(0, 8)), " ", h("b", {}, `${e.source}[${e.dyno}]`), " ", coloured(e.text));
		el.hidden = !wanted(el);
		return el;
	}
	function flush() {
		const bottom = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
		box.append(...waiting.splice(0).slice(-KEPT).map(line));
		while (box.children.length > KEPT)
			box.firstChild.remove();
		if (bottom)
			box.scrollTop = box.scrollHeight;
	}
	let frame = 0;
	source = new EventSource(path);
	source.onmessage = (m) => {
		waiting.push(JSON.parse(m.data));
		if (waiting.length > 4 * KEPT)
			waiting.splice(0, KEPT);
		if (!paused && !frame)
			frame = setTimeout(() => {
				frame = 0;
				flush();
			}, 60);
	};
	return { el: box, tools: [filter, kind, pause], close: () => source.close() };
}
