// SPDX-License-Identifier: ISC
// The three phases side by side: a VM with an operating system, a process or container, Cowbell's VM without one. Figures of the benchmark
// are labelled as such, with their source; this server's own are what it has measured since it began.
import { api, card, count, h, legend, ms, say } from "./ui.js";
import { logBars } from "./chart.js";
import { coldCard, HOW } from "./cold.js";
import { againLive } from "./live.js";

const CLS = { 1: "fq", 2: "f2", 3: "f1" };

export function starts(main) {
	const bars = logBars({ label: "From the start to the first answer, logarithmic", format: ms }), own = logBars({ label: "This server's cold starts, median", format: ms });
	const source = h("p", { class: "soft small" }), table = h("div", { class: "wrap" }), which = h("div", { class: "segments push", role: "group", "aria-label": "Which app" });
	const cold = coldCard("w6", true), ownEmpty = h("p", { class: "empty" }, "No request had to wake an app yet: ask a sleeping one.");
	const bench = card("w12", "Three ways to deliver an app", legend([["fq", "phase 1: a VM with an operating system"], ["f2", "phase 2: a process or a container"], ["f1", "phase 3: Cowbell, a VM without an operating system"]]), h("br"), bars.el, source, h("details", {}, h("summary", {}, "The same as a table"), table));
	bench.head.append(which);
	main.append(h("div", { class: "head" }, h("h1", {}, "Starts")), h("p", { class: "soft" }, "How long somebody waits for the first answer of an app that was not running."), h("div", { class: "grid" }, bench.el, card("w6", "This server, measured", own.el, ownEmpty, h("p", { class: "soft small" }, "The first request to a sleeping app, through the router, until its answer had ended; medians since the server began.")).el, cold.el));
	let stop = false, phases = null, app = 1;

	function draw() {
		bars.update(phases.phases.map((p) => ({ name: `Phase ${p.phase}: ${p.name}`, bars: p.systems.map((s) => ({ name: s.name, value: s.ms[app], cls: CLS[p.phase] })) })));
		which.replaceChildren(...phases.apps.map((name, i) => h("button", { type: "button", "aria-pressed": String(i === app), onclick: () => {
			app = i;
			draw();
			which.children[i].focus();
		} }, name.split(" ")[0])));
	}

	async function load() {
		try {
			const r = await fetch("/dashboard/phases.json");
			phases = await r.json();
			if (stop)
				return;
			source.textContent = `Not measured by this server. Source: ${phases.source}; ${phases.what}.`;
			table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Phase"), h("th", {}, "How"), phases.apps.map((a) => h("th", { class: "n" }, a)))), h("tbody", {}, phases.phases.flatMap((p) => p.systems.map((s) => h("tr", {}, h("td", {}, p.phase), h("td", {}, s.name), s.ms.map((v) => h("td", { class: "n nowrap" }, ms(v)))))))));
			draw();
		} catch {
			say("The figures cannot be loaded.");
		}
	}
	async function refresh() {
		try {
			const d = await api("overview");
			if (stop)
				return;
			cold.update(d.cold);
			ownEmpty.hidden = d.cold.kinds.length > 0;
			own.update(d.cold.kinds.length ? [{ name: "Phase 3, here and now", bars: d.cold.kinds.map((k) => ({ name: `${HOW[k.how]} (${count(k.count)})`, value: Math.max(.01, k.total.p50), cls: "f1" })) }] : []);
		} catch (e) {
			if (!stop && e.status !== 401)
				say(e.message);
		}
	}
	load();
	refresh();
	const end = againLive(refresh);
	return () => {
		stop = true;
		end();
	};
}
