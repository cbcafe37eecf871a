// SPDX-License-Identifier: ISC
// An event stream that says in the page's head whether it lives. The browser connects again by itself; a refusal asks who we are.
import { api, live } from "./ui.js";

export function follow(path, event) {
	const source = new EventSource(`/dashboard/api/${path}`);
	source.onopen = () => live("live");
	source.onmessage = (e) => {
		live("live");
		event(JSON.parse(e.data));
	};
	source.onerror = () => {
		live(source.readyState === EventSource.CLOSED ? "stopped" : "connecting");
		if (source.readyState === EventSource.CLOSED)
			api("me").catch(() => {});
	};
	return () => source.close();
}

// What a page shows, every five seconds while somebody looks; returns what ends it.
export function again(refresh) {
	const timer = setInterval(() => document.hidden || refresh(), 5000);
	return () => clearInterval(timer);
}

// The same for a page that follows nothing itself: the stream tells its head whether the server is there.
export function againLive(refresh) {
	const end = again(refresh), close = follow("live", () => {});
	return () => {
		end();
		close();
	};
}

// The last ten minutes of the server's answer, then second by second; seconds that were missed are gaps.
export class Seconds {
	constructor(series, columns) {
		this.columns = columns;
		for (const c of columns)
			this[c] = series[c].slice();
		this.last = null;
	}
	push(e) {
		const missed = this.last === null ? 0 : Math.min(600, Math.max(0, e.sec - this.last - 1));
		this.last = e.sec;
		for (const c of this.columns) {
			for (let i = 0; i < missed; i++)
				this[c].push(null);
			this[c].push(e[c]);
			this[c].splice(0, this[c].length - 599);
		}
	}
	tail(column, n) {
		return this[column].slice(-n);
	}
	mean(column, n) {
		const v = this.tail(column, n).filter((x) => x !== null);
		return v.length ? v.reduce((a, b) => a + b, 0) / v.length : 0;
	}
}
