// SPDX-License-Identifier: ISC
// The first page: how the platform is now, and was in the last ten minutes.
import { ago, api, bar, bytes, card, count, h, legend, ms, say, short, tile } from "./ui.js";
import { timeChart } from "./chart.js";
import { coldCard } from "./cold.js";
import { again, follow, Seconds } from "./live.js";

export function overview(main, arg, me) {
	const tiles = { apps: tile("Apps"), rate: tile("Requests"), latency: tile("Latency, 10 min"), cold: tile("Cold starts"), memory: tile("Memory of apps"), builds: tile("Builds") };
	const rate = timeChart({ label: "Requests per second", format: short, seconds: 1, least: 4, lines: [{ name: "requests", cls: "s2", area: true }, { name: "errors (5xx)", cls: "sbad", area: true }] });
	const latency = timeChart({ label: "Latency", format: ms, seconds: 10, log: true, lines: [{ name: "p99", cls: "s1" }, { name: "p90", cls: "s3" }, { name: "p50", cls: "s4" }] });
	const memory = timeChart({ label: "Memory of instances", format: bytes, unit: 1 << 20, seconds: 10, height: 150, least: 1 << 20, lines: [{ name: "memory", cls: "s4", area: true }] });
	const cold = coldCard("w7", true);
	const state = { span: 120, seconds: null, data: null };
	const spans = [[120, "2 min"], [599, "10 min"]].map(([n, name]) => h("button", { type: "button", "aria-pressed": String(n === state.span), onclick: (e) => {
		state.span = n;
		spans.forEach((b) => b.setAttribute("aria-pressed", String(b === e.currentTarget)));
		drawRate();
	} }, name));
	const rateCard = card("w7", "Requests per second", rate.el), latencyCard = card("w5", "Latency percentiles", latency.el);
	rateCard.head.append(legend([["f2", "requests"], ["fbad", "errors"]]), h("div", { class: "segments push", role: "group", "aria-label": "Time shown" }, spans));
	latencyCard.head.append(legend([["f4", "p50"], ["f3", "p90"], ["f1", "p99"]]));
	const answers = h("div"), answersCard = card("", "Answers since the server began", answers), memoryCard = card("", "Memory of instances", memory.el);
	const side = h("div", { class: "w5 main-side" }, answersCard.el, me.admin ? memoryCard.el : null);
	main.append(h("div", { class: "head" }, h("h1", {}, "Overview"), h("span", { class: "soft small push", id: "since" })), h("div", { class: "tiles" }, Object.values(tiles).map((t) => t.el)), h("div", { class: "grid" }, rateCard.el, latencyCard.el, cold.el, side));

	function drawRate() {
		const s = state.seconds;
		if (!s)
			return;
		const r = s.tail("requests", state.span), e = s.tail("errors", state.span);
		rate.update([r, e], `now ${r.at(-1) ?? 0}, at most ${Math.max(0, ...r)}, errors ${e.reduce((a, b) => a + (b || 0), 0)}`);
		tiles.rate.set(short(Math.round(s.mean("requests", 5) * 10) / 10), "/s", `${count(state.data.requests)} since the start`);
	}

	function drawMemory(used, running) {
		const d = state.data;
		tiles.memory.set(bytes(used), "", d.memory.platform ? [`of ${bytes(d.memory.budget)}`, h("br"), `the platform itself: ${bytes(d.memory.platform)}`] : `${running} instances`, d.memory.budget ? bar([[used > d.memory.budget * .9 ? "hot" : "m", used / d.memory.budget]], `${Math.round(100 * used / d.memory.budget)} % of the budget`) : null);
	}

	function draw(d) {
		const a = d.apps, l = d.latency, rest = [[a.crashed, "crashed"], [a.maintenance, "in maintenance"], [a.empty, "never pushed"]].filter(([n]) => n).map(([n, w]) => `${count(n)} ${w}`);
		document.getElementById("since").replaceChildren("counting since the server began, ", ago(d.since));
		tiles.apps.set(count(a.total), "", [`${count(a.running)} running, ${count(a.asleep)} asleep`, rest.length ? h("br") : "", rest.join(", ")], bar([["a", a.total ? a.running / a.total : 0], ["b", a.total ? a.asleep / a.total : 0]], `${a.running} of ${a.total} run`));
		tiles.latency.set(l.count ? ms(l.p50) : "–", "", l.count ? `median; p90 ${ms(l.p90)}, p99 ${ms(l.p99)}` : "no request");
		const all = d.cold.kinds.reduce((n, k) => n + k.count, 0), half = d.cold.kinds.slice().sort((x, y) => y.count - x.count)[0];
		tiles.cold.set(count(d.cold_requests), "", all ? `mostly ${half.how}: median ${ms(half.total.p50)}` : "none yet");
		tiles.builds.set(count(d.builds.count), "", `${d.builds.failed ? `${count(d.builds.failed)} failed` : "none failed"}${d.builds.p50 ? `, median ${ms(d.builds.p50)}` : ""}`);
		drawMemory(d.memory.used, d.instances);
		const p = (k) => d.series.latency.map((x) => x?.count ? x[k] : null);
		latency.update([p("p99"), p("p90"), p("p50")], l.count ? `median ${ms(l.p50)}, p99 ${ms(l.p99)}` : "no request");
		if (d.samples)
			memory.update([d.samples.memory], `now ${bytes(d.memory.used)}`);
		cold.update(d.cold);
		const c = d.classes, sum = Object.values(c).reduce((x, y) => x + y, 0);
		answers.replaceChildren(h("table", {}, h("tbody", {}, [["2xx", "good"], ["3xx", "elsewhere"], ["4xx", "the client's error"], ["5xx", "the app's or our error"], ["none", "the client left"]].map(([k, what]) => h("tr", {}, h("td", {}, h("b", {}, k === "none" ? "–" : k)), h("td", { class: "soft" }, what), h("td", { class: "n" }, count(c[k])), h("td", { class: "n soft nowrap" }, sum ? `${(100 * c[k] / sum).toFixed(1)} %` : ""))))));
	}

	let stop = false, close = () => {};
	async function refresh() {
		try {
			const d = await api("overview");
			if (stop)
				return;
			state.data = d;
			if (!state.seconds) {
				state.seconds = new Seconds(d.series, ["requests", "errors", "cold"]);
				close = follow("live", (e) => {
					state.seconds.push(e);
					drawRate();
					if (me.admin)
						drawMemory(e.memory, e.running);
				});
			}
			draw(d);
			drawRate();
		} catch (e) {
			if (!stop && e.status !== 401)
				say(e.message);
		}
	}
	refresh();
	const end = again(refresh);
	return () => {
		stop = true;
		end();
		close();
	};
}
