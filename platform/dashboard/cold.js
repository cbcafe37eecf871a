// SPDX-License-Identifier: ISC
// Cold starts: where the time of requests that woke an app went, by how the app came to life.
import { ago, card, h, legend, ms } from "./ui.js";
import { stackedBars } from "./chart.js";

const PARTS = [["queue", "f3", "waiting in the queue"], ["start", "f1", "start, until it listens"], ["connect", "f4", "connecting"], ["service", "f2", "the answer"]];
export const HOW = { boot: "whole boot", prefix: "from the runtime's snapshot", snapshot: "from its own snapshot", standby: "from a prepared instance", other: "otherwise" };

export function coldCard(cls, withApp) {
	const bars = stackedBars({ label: "Cold starts by kind, median of each part", format: ms });
	const body = h("tbody"), table = h("div", { class: "wrap" }, h("table", {}, h("caption", { class: "soft small", hidden: true }, "The last cold starts"), h("thead", {}, h("tr", {}, withApp ? h("th", {}, "App") : null, h("th", {}, "When"), h("th", { class: "wide" }, "How"), h("th", { class: "n" }, "Start"), h("th", { class: "n" }, "Total"))), body));
	const empty = h("p", { class: "empty" }, "No request had to wake an app yet.");
	const c = card(cls, "Cold starts", legend(PARTS.map(([, f, name]) => [f, name])), h("br"), bars.el, empty, table);
	c.head.append(h("span", { class: "soft small push" }, "median of each part"));
	return {
		el: c.el,
		update(cold) {
			empty.hidden = cold.kinds.length > 0;
			table.hidden = !cold.recent.length;
			bars.update(cold.kinds.map((k) => ({ name: HOW[k.how] || k.how, note: `${k.count} ×, p99 ${ms(k.total.p99)}`, parts: PARTS.map(([p, f, name]) => ({ cls: f, name, value: k[p].p50 })) })));
			body.replaceChildren(...cold.recent.slice(0, 10).map((r) => h("tr", {}, withApp ? h("td", {}, h("a", { class: "name", href: `/dashboard/apps/${r.app}` }, r.app)) : null, h("td", { class: "soft nowrap" }, ago(r.at)), h("td", { class: "soft wide" }, r.how), h("td", { class: "n nowrap" }, ms(r.ms.start)), h("td", { class: "n nowrap" }, ms(r.ms.total)))));
		},
	};
}
