// SPDX-License-Identifier: ISC
// One app: how it is, what can be done with it, its lines live.
import { ago, api, ask, bytes, card, count, h, legend, ms, pill, say, short, tile } from "./ui.js";
import { timeChart } from "./chart.js";
import { coldCard } from "./cold.js";
import { again, follow, Seconds } from "./live.js";
import { logView } from "./logs.js";

export function one(main, name) {
	const path = `apps/${encodeURIComponent(name)}`, v3 = `v3/${path}`;
	let stop = false, closes = [], seconds = null, data = null;
	const tiles = { rate: tile("Requests"), latency: tile("Latency"), cold: tile("Cold starts"), memory: tile("Instances") };
	const title = h("h1", {}, name), state = h("span"), link = h("a", { class: "small", rel: "noopener", target: "_blank" });
	const restart = h("button", { type: "button" }, "Restart"), maintenance = h("button", { type: "button" }, "Maintenance on");
	const rate = timeChart({ label: "Requests per second", format: short, seconds: 1, least: 4, height: 160, lines: [{ name: "requests", cls: "s2", area: true }, { name: "errors (5xx)", cls: "sbad", area: true }] });
	const rateCard = card("w7", "Requests per second, last 2 minutes", rate.el);
	rateCard.head.append(legend([["f2", "requests"], ["fbad", "errors"]]));
	const instances = h("div"), formation = h("div"), releases = h("div"), config = h("div"), log = logView(`/dashboard/api/${path}/logs`);
	const logCard = card("w12", "Log", log.el), cold = coldCard("w6", false);
	logCard.head.append(h("div", { class: "row push" }, log.tools));
	closes.push(log.close);
	main.append(h("p", { class: "crumb" }, h("a", { href: "/dashboard/apps" }, "← Apps")), h("div", { class: "head" }, title, state, link, h("div", { class: "row push" }, restart, maintenance)), h("div", { class: "tiles" }, Object.values(tiles).map((t) => t.el)), h("div", { class: "grid" }, rateCard.el, card("w5", "Instances", instances).el, logCard.el, cold.el, card("w6", "Releases", releases).el, card("w6", "Formation", formation).el, card("w6", "Config vars", config).el));

	// What somebody ordered: say how it went, look again.
	async function order(button, doing, done, call) {
		if (button)
			button.disabled = true;
		say(doing);
		try {
			await call();
			say(done);
			await refresh();
			await loadReleases();
		} catch (e) {
			say(e.message);
		}
		if (button)
			button.disabled = false;
	}

	restart.addEventListener("click", () => order(restart, "Restarting…", `${name} restarts.`, () => api(`${v3}/dynos`, { method: "DELETE" })));
	maintenance.addEventListener("click", async () => {
		const on = !data?.maintenance;
		if (!on || await ask(`Visitors of ${name} will see a maintenance page.`, "Maintenance on"))
			order(maintenance, "Changing…", `Maintenance is ${on ? "on" : "off"}.`, () => api(v3, { method: "PATCH", body: { maintenance: on } }));
	});

	function drawInstances(d) {
		instances.replaceChildren(d.instances.length ? h("div", { class: "wrap" }, h("table", { class: "stack" }, h("thead", {}, h("tr", {}, h("th", {}, "Dyno"), h("th", {}, "State"), h("th", {}, "Since"), h("th", { class: "n" }, "Memory"), h("th", { class: "n" }, "Requests in it"))), h("tbody", {}, d.instances.map((i) => h("tr", {}, h("td", {}, h("b", {}, i.dyno), " ", h("span", { class: "tag" }, `v${i.version}`), " ", i.how ? h("span", { class: "tag", title: i.start_ms ? `listened after ${ms(i.start_ms)}` : "" }, i.start_ms ? `${i.how}, ${ms(i.start_ms)}` : i.how) : null), h("td", { class: "side" }, pill(i.state)), h("td", { class: "soft small nowrap" }, ago(i.at)), h("td", { class: "n nowrap", "data-label": "memory" }, bytes(i.memory)), h("td", { class: "n", "data-label": "in flight" }, i.in_flight)))))) : h("p", { class: "empty" }, d.state === "asleep" ? "Asleep: no process, no memory. The next request wakes it." : d.state === "empty" ? "Nothing was pushed yet." : "None runs."));
	}

	function drawFormation(d) {
		const open = formation.contains(document.activeElement) ? document.activeElement.dataset.key : null;
		formation.replaceChildren(d.formation.length ? h("table", { class: "stack" }, h("tbody", {}, d.formation.map((f) => {
			const scale = (by) => order(null, "Scaling…", `${f.type} is ${f.quantity + by} now.`, () => api(`${v3}/formation/${f.type}`, { method: "PATCH", body: { quantity: f.quantity + by } }));
			return h("tr", {}, h("td", {}, h("b", {}, f.type), " ", h("span", { class: "tag" }, f.size), h("div", { class: "soft small mono" }, f.command)), h("td", { class: "n side" }, h("span", { class: "stepper" }, h("button", { type: "button", "data-key": `${f.type}-`, "aria-label": `One ${f.type} less`, disabled: f.quantity < 1, onclick: () => scale(-1) }, "−"), h("output", { "aria-label": `${f.type} processes` }, f.quantity), h("button", { type: "button", "data-key": `${f.type}+`, "aria-label": `One ${f.type} more`, onclick: () => scale(1) }, "+"))));
		}))) : h("p", { class: "empty" }, "Process types come with the first push."));
		if (open)
			formation.querySelector(`[data-key="${open}"]`)?.focus();
	}

	let values = null;
	function drawConfig(d) {
		const show = h("button", { type: "button", class: "mini", onclick: async () => {
			try {
				values = values ? null : await api(`${v3}/config-vars`);
				drawConfig(data);
				config.querySelector("button")?.focus();
			} catch (e) {
				say(e.message);
			}
		} }, values ? "Hide values" : "Show values");
		config.replaceChildren(d.config.length ? h("dl", { class: "vars mono" }, d.config.map((k) => [h("dt", {}, k), h("dd", {}, values ? values[k] ?? "" : "••••••••")])) : h("p", { class: "empty" }, "None are set."), d.config.length ? h("div", { class: "row below" }, show) : "");
	}

	async function loadReleases() {
		let list;
		try {
			list = await api(`${v3}/releases`, { headers: { Range: "version ..; order=desc,max=8" } });
		} catch (e) {
			if (!stop && e.status !== 401)
				releases.replaceChildren(h("p", { class: "soft" }, e.message));
			return;
		}
		if (stop)
			return;
		releases.replaceChildren(list.length ? h("table", { class: "stack" }, h("tbody", {}, list.map((r) => h("tr", {}, h("td", {}, h("b", {}, `v${r.version}`), " ", r.description, h("div", { class: "soft small" }, r.user?.email || "", " ", ago(Date.parse(r.created_at)))), h("td", { class: "n side" }, r.current ? h("span", { class: "pill up" }, "current") : r.status !== "succeeded" ? pill(r.status) : r.slug ? h("button", { type: "button", class: "mini", "aria-label": `Roll back to v${r.version}`, onclick: async (e) => {
			const b = e.currentTarget;
			if (await ask(`Make a new release of ${name} that is as v${r.version} was?`, "Roll back"))
				order(b, "Rolling back…", `Rolled back to v${r.version}.`, () => api(`${v3}/releases`, { method: "POST", body: { release: r.id } }));
		} }, "Roll back") : null))))) : h("p", { class: "empty" }, "No release yet."));
	}

	function drawRate() {
		const r = seconds.tail("requests", 120), e = seconds.tail("errors", 120);
		rate.update([r, e], `now ${r.at(-1) ?? 0}, at most ${Math.max(0, ...r)}`);
		tiles.rate.set(short(Math.round(seconds.mean("requests", 5) * 10) / 10), "/s", `${count(data.requests)} since the server began`);
	}

	function draw(d) {
		data = d;
		state.replaceChildren(pill(d.state));
		link.href = d.url;
		link.textContent = d.url.replace(/^https?:\/\//, "").replace(/\/$/, "");
		maintenance.textContent = d.maintenance ? "Maintenance off" : "Maintenance on";
		const l = d.latency;
		tiles.latency.set(l.count ? ms(l.p50) : "–", "", l.count ? `median; p90 ${ms(l.p90)}, p99 ${ms(l.p99)}` : "no request yet");
		const k = d.cold.kinds[0];
		tiles.cold.set(count(d.cold_requests), "", k ? `${k.how}: median ${ms(k.total.p50)}` : "none remembered");
		tiles.memory.set(count(d.instances.length), "", `${bytes(d.instances.reduce((a, i) => a + i.memory, 0))} of memory`);
		drawInstances(d);
		drawFormation(d);
		drawConfig(d);
		cold.update(d.cold);
	}

	async function refresh() {
		try {
			const d = await api(path);
			if (stop)
				return;
			if (!seconds) {
				seconds = new Seconds(d.series, ["requests", "errors"]);
				closes.push(follow(`live?app=${encodeURIComponent(name)}`, (e) => {
					seconds.push(e);
					drawRate();
					if (e.running !== data.instances.length)
						refresh();
				}));
				loadReleases();
			}
			draw(d);
			drawRate();
		} catch (e) {
			if (stop || e.status === 401)
				return;
			if (e.status === 404)
				main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "No such app")), h("p", { class: "notice" }, `There is no app ${name}, or you may not see it. `, h("a", { href: "/dashboard/apps" }, "All apps")));
			else
				say(e.message);
		}
	}
	refresh();
	const end = again(refresh);
	return () => {
		stop = true;
		end();
		closes.forEach((c) => c());
	};
}
