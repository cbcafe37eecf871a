// SPDX-License-Identifier: ISC
// The list of apps: searched, filtered, sorted and cut into pages by the server, for there may be tens of thousands.
import { ago, api, count, h, ms, pill, say } from "./ui.js";
import { againLive } from "./live.js";

const STATES = ["all", "running", "asleep", "crashed", "maintenance", "empty"];
const SORTS = [["name", "name"], ["requests", "most requests"], ["released", "newest release"]];

export function apps(main, arg, me) {
	const query = new URLSearchParams(location.search);
	const q = h("input", { type: "search", id: "q", placeholder: "Search by name", "aria-label": "Search apps by name", autocomplete: "off", spellcheck: "false", value: query.get("q") || "" });
	const state = h("select", { "aria-label": "State" }, STATES.map((s) => h("option", { value: s, selected: s === query.get("state") }, s === "all" ? "in any state" : s === "empty" ? "never pushed" : s)));
	const sort = h("select", { "aria-label": "Sorted by" }, SORTS.map(([v, name]) => h("option", { value: v, selected: v === query.get("sort") }, `by ${name}`)));
	const body = h("tbody"), found = h("span", { class: "soft small push", role: "status" }), empty = h("p", { class: "empty", hidden: true });
	const back = h("button", { type: "button" }, "Previous"), on = h("button", { type: "button" }, "Next"), where = h("span", { class: "soft small" });
	const pages = h("div", { class: "pages", hidden: true }, back, where, on);
	let page = Number(query.get("page")) || 1, running = null, stop = false;

	main.append(h("div", { class: "head" }, h("h1", {}, "Apps"), found), h("div", { class: "row" }, h("div", { class: "search" }, q, h("kbd", { "aria-hidden": "true" }, "/")), state, sort), h("section", { class: "card", "aria-label": "Apps" }, h("div", { class: "wrap" }, h("table", { class: "stack" }, h("thead", {}, h("tr", {}, h("th", {}, "App"), h("th", {}, "State"), me.admin ? h("th", { class: "wide" }, "Owner") : null, h("th", {}, "Release"), h("th", { class: "n" }, "Requests"), h("th", { class: "n" }, "Median"), h("th", { class: "n" }, "p99"))), body)), empty, pages));

	function row(a) {
		return h("tr", {}, h("td", {}, h("a", { class: "name", href: `/dashboard/apps/${a.name}` }, a.name)), h("td", { class: "side" }, pill(a.state)), me.admin ? h("td", { class: "soft small wide" }, a.owner) : null, h("td", { class: "soft small" }, a.version ? [`v${a.version}, `, ago(a.released)] : "none"), h("td", { class: "n", "data-label": "requests" }, count(a.requests)), h("td", { class: "n nowrap wide" }, a.latency.count ? ms(a.latency.p50) : "–"), h("td", { class: "n nowrap wide" }, a.latency.count ? ms(a.latency.p99) : "–"));
	}

	async function load() {
		running?.abort();
		running = new AbortController();
		const ask = new URLSearchParams();
		for (const [k, v] of [["q", q.value.trim()], ["state", state.value === "all" ? "" : state.value], ["sort", sort.value === "name" ? "" : sort.value], ["page", page > 1 ? page : ""]])
			if (v)
				ask.set(k, v);
		history.replaceState(null, "", `/dashboard/apps${ask.size ? `?${ask}` : ""}`);
		try {
			const r = await api(`apps?${ask}`, { signal: running.signal });
			if (stop)
				return;
			page = r.page;
			body.replaceChildren(...r.apps.map(row));
			found.textContent = r.found === r.total ? `${count(r.total)} ${r.total === 1 ? "app" : "apps"}` : `${count(r.found)} of ${count(r.total)} apps`;
			empty.hidden = r.apps.length > 0;
			empty.replaceChildren(...(r.total ? ["No app is like that."] : ["There are no apps yet. In a directory with your code: ", h("code", {}, "cowbell push")]));
			pages.hidden = r.pages < 2;
			where.textContent = `page ${count(r.page)} of ${count(r.pages)}`;
			back.disabled = r.page <= 1;
			on.disabled = r.page >= r.pages;
		} catch (e) {
			if (e.name !== "AbortError" && e.status !== 401 && !stop)
				say(e.message);
		}
	}
	const first = () => {
		page = 1;
		load();
	};
	let typing;
	q.addEventListener("input", () => {
		clearTimeout(typing);
		typing = setTimeout(first, 120);
	});
	state.addEventListener("change", first);
	sort.addEventListener("change", first);
	const turn = (by) => {
		page += by;
		load();
		scrollTo(0, 0);
	};
	back.addEventListener("click", () => turn(-1));
	on.addEventListener("click", () => turn(1));
	const key = (e) => {
		if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
			e.preventDefault();
			q.focus();
		}
	};
	document.addEventListener("keydown", key);
	load();
	const end = againLive(load);
	return () => {
		stop = true;
		end();
		running?.abort();
		document.removeEventListener("keydown", key);
	};
}
