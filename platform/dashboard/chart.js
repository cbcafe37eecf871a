// SPDX-License-Identifier: ISC
// Charts in SVG: lines over time, and bars. They fit their container's width, follow the style sheet's colours (dark mode), tell their values
// to the pointer and to the arrow keys, and what they show in words to who cannot see them.
import { h, plain, svg } from "./ui.js";

const LEFT = 46, RIGHT = 6, TOP = 8, BOTTOM = 22;

function nice(max) {
	if (max <= 0)
		return 1;
	const p = 10 ** Math.floor(Math.log10(max));
	return [1, 2, 4, 5, 10].map((m) => m * p).find((v) => v >= max);
}

// o: { label, lines: [{name, cls, area}], format, log, seconds: of one value, height }. update(values): an array for each line, null is a gap.
export function timeChart(o) {
	const box = h("div", { class: "chart" }), tip = h("div", { class: "tip", hidden: true }), height = o.height || 190;
	const root = svg("svg", { role: "img", tabindex: 0, height, "aria-label": o.label });
	const tick = plain(o.format), unit = o.unit || 1;
	let values = o.lines.map(() => []), at = null, geometry = null;
	box.append(root, tip);

	function draw() {
		const width = box.clientWidth;
		if (!width)
			return;
		const n = Math.max(2, values[0].length), all = values.flat().filter((v) => v !== null && v !== undefined && (!o.log || v > 0));
		const top = o.log ? 10 ** Math.ceil(Math.log10(Math.max(1, ...all))) : Math.max(o.least || 0, nice(Math.max(0, ...all) / unit) * unit);
		const low = o.log ? 10 ** Math.floor(Math.log10(Math.min(top / 10, ...all))) : 0;
		const x = (i) => LEFT + (width - LEFT - RIGHT) * i / (n - 1);
		const y = (v) => {
			const share = o.log ? Math.log10(Math.max(v, low) / low) / Math.log10(top / low) : v / top;
			return TOP + (height - TOP - BOTTOM) * (1 - share);
		};
		const g = [];
		const ticks = o.log ? Array.from({ length: Math.round(Math.log10(top / low)) + 1 }, (_, i) => low * 10 ** i) : [0, top / 2, top];
		for (const t of ticks)
			g.push(svg("line", { class: "grid-line", x1: LEFT, x2: width - RIGHT, y1: y(t), y2: y(t) }), svg("text", { x: LEFT - 8, y: y(t) + 4, "text-anchor": "end" }, tick(t)));
		const whole = (n - 1) * o.seconds, apart = [10, 20, 30, 60, 120, 300, 600].find((t) => whole / t <= width / 90) || 600;
		for (let t = 0; t <= whole; t += apart) {
			const at = x(n - 1 - t / o.seconds);
			g.push(svg("text", { x: at, y: height - 5, "text-anchor": t === 0 ? "end" : at < LEFT + 26 ? "start" : "middle" }, t === 0 ? "now" : apart >= 60 ? `−${t / 60} min` : `−${t} s`));
		}
		o.lines.forEach((l, k) => {
			let line = "", area = "", open = null;
			values[k].forEach((v, i) => {
				const none = v === null || v === undefined;
				if (!none) {
					line += `${open === null ? "M" : "L"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
					if (open === null)
						open = i;
				}
				if (open !== null && (none || i === n - 1)) {
					const last = none ? i - 1 : i;
					area += line.slice(line.lastIndexOf("M")) + `L${x(last).toFixed(1)} ${y(low)}L${x(open).toFixed(1)} ${y(low)}Z`;
					if (last === open)
						line += `h.1`;
					open = null;
				}
			});
			if (l.area)
				g.push(svg("path", { class: `area ${l.cls}`, d: area }));
			g.push(svg("path", { class: l.cls, d: line }));
		});
		root.setAttribute("viewBox", `0 0 ${width} ${height}`);
		root.replaceChildren(...g);
		geometry = { n, x, y, width };
		point();
	}

	function point() {
		if (at === null || !geometry) {
			tip.hidden = true;
			return;
		}
		const { n, x, y, width } = geometry;
		at = Math.min(n - 1, Math.max(0, at));
		root.querySelectorAll(".cursor, .dot").forEach((e) => e.remove());
		root.append(svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }));
		const s = (n - 1 - at) * o.seconds, rows = [h("div", {}, s ? `${s >= 90 ? `${(s / 60).toFixed(1)} min` : `${s} s`} ago` : "now")];
		o.lines.forEach((l, k) => {
			const v = values[k][at];
			if (v !== null && v !== undefined)
				root.append(svg("circle", { class: `dot ${l.cls}`, cx: x(at), cy: y(v), r: 4 }));
			rows.push(h("div", {}, `${l.name}: ${v === null || v === undefined ? "none" : o.format(v)}`));
		});
		tip.replaceChildren(...rows);
		tip.hidden = false;
		const left = x(at) + 12 + tip.offsetWidth > width ? x(at) - 12 - tip.offsetWidth : x(at) + 12;
		tip.style.transform = `translate(${Math.max(0, left)}px, 6px)`;
	}

	root.addEventListener("pointermove", (e) => {
		if (!geometry)
			return;
		const r = root.getBoundingClientRect();
		at = Math.round((e.clientX - r.left - LEFT) / (geometry.width - LEFT - RIGHT) * (geometry.n - 1));
		point();
	});
	const leave = () => {
		at = null;
		root.querySelectorAll(".cursor, .dot").forEach((e) => e.remove());
		point();
	};
	root.addEventListener("pointerleave", leave);
	root.addEventListener("blur", leave);
	root.addEventListener("keydown", (e) => {
		const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -1e9, End: 1e9 }[e.key];
		if (e.key === "Escape")
			leave();
		if (step === undefined || !geometry)
			return;
		e.preventDefault();
		at = (at === null ? geometry.n - 1 : at) + step;
		point();
	});
	new ResizeObserver(draw).observe(box);
	return {
		el: box,
		update(v, words) {
			values = v;
			root.setAttribute("aria-label", words ? `${o.label}: ${words}. Arrow keys tell the values.` : o.label);
			draw();
		},
	};
}

// Bars on a logarithmic axis from left to right. groups: [{name, bars: [{name, value, cls, note}]}]
export function logBars(o) {
	const box = h("div", { class: "chart bars" }), root = svg("svg", { role: "img", "aria-label": o.label });
	let groups = [];
	box.append(root);
	function draw() {
		const width = box.clientWidth;
		if (!width || !groups.length)
			return;
		const narrow = width < 560, left = narrow ? 2 : 268, right = 74, all = groups.flatMap((g) => g.bars.map((b) => b.value));
		const low = 10 ** Math.floor(Math.log10(Math.min(...all)) - .001), top = 10 ** Math.ceil(Math.log10(Math.max(...all)));
		const x = (v) => left + (width - left - right) * Math.log10(v / low) / Math.log10(top / low);
		const g = [];
		let y = 22;
		for (const group of groups) {
			g.push(svg("text", { class: "group", x: 0, y: y + 2 }, group.name));
			y += 14;
			for (const b of group.bars) {
				g.push(svg("text", { class: "name", x: narrow ? 0 : left - 10, y: narrow ? y + 12 : y + 14, "text-anchor": narrow ? "start" : "end" }, b.name));
				if (narrow)
					y += 16;
				g.push(svg("rect", { class: b.cls, x: left, y: y + 2, width: Math.max(2, x(b.value) - left), height: 16, rx: 4 }, svg("title", {}, `${group.name}, ${b.name}: ${o.format(b.value)}`)));
				g.push(svg("text", { class: "value", x: Math.max(left + 2, x(b.value)) + 7, y: y + 14 }, o.format(b.value)));
				y += narrow ? 25 : 24;
			}
			y += 26;
		}
		const grid = [];
		for (let v = low; v <= top * 1.001; v *= 10)
			grid.push(svg("line", { class: "grid-line", x1: x(v), x2: x(v), y1: 0, y2: y - 26 }), svg("text", { x: x(v), y: y - 10, "text-anchor": v === low ? "start" : "middle" }, plain(o.format)(v)));
		root.setAttribute("viewBox", `0 0 ${width} ${y}`);
		root.setAttribute("height", y);
		root.replaceChildren(...grid, ...g);
	}
	new ResizeObserver(draw).observe(box);
	return {
		el: box,
		update(v) {
			groups = v;
			draw();
		},
	};
}

// Parts of a whole, one bar for each row. rows: [{name, note, parts: [{cls, name, value}]}]
export function stackedBars(o) {
	const box = h("div", { class: "chart bars" }), root = svg("svg", { role: "img", "aria-label": o.label });
	let rows = [];
	box.append(root);
	function draw() {
		const width = box.clientWidth;
		if (!width)
			return;
		const right = 76, sum = (r) => r.parts.reduce((a, p) => a + p.value, 0), top = Math.max(.001, ...rows.map(sum)), g = [];
		let y = 0;
		for (const r of rows) {
			let x = 0;
			g.push(svg("text", { class: "name", x: 0, y: y + 14 }, r.name), svg("text", { x: width, y: y + 14, "text-anchor": "end" }, r.note || ""));
			for (const p of r.parts) {
				const w = (width - right) * p.value / top;
				if (w >= .4)
					g.push(svg("rect", { class: p.cls, x, y: y + 21, width: Math.max(1, w - 1), height: 18, rx: 3 }, svg("title", {}, `${p.name}: ${o.format(p.value)}`)));
				x += w;
			}
			g.push(svg("text", { class: "value", x: x + 7, y: y + 34 }, o.format(sum(r))));
			y += 54;
		}
		root.setAttribute("viewBox", `0 0 ${width} ${Math.max(1, y - 8)}`);
		root.setAttribute("height", Math.max(1, y - 8));
		root.replaceChildren(...g);
	}
	new ResizeObserver(draw).observe(box);
	return {
		el: box,
		update(v) {
			rows = v;
			root.setAttribute("aria-label", `${o.label}. ${v.map((r) => `${r.name}: ${r.parts.map((p) => `${p.name} ${o.format(p.value)}`).join(", ")}`).join("; ")}`);
			draw();
		},
	};
}
