// SPDX-License-Identifier: ISC
// The frame: who is logged in, which page the path means, moving between pages without loading, log-in and log-out.
// A page is a function (main, path) that fills `main` and gives back what ends it.
import { api, h, live, say } from "./ui.js";
import { overview } from "./overview.js";
import { apps } from "./apps.js";
import { one } from "./one.js";
import { starts } from "./starts.js";

const main = document.getElementById("main"), top = document.getElementById("top");
let end = null, me = null;

const pages = [
	[/^\/dashboard\/?$/, "overview", "Overview", overview],
	[/^\/dashboard\/apps\/?$/, "apps", "Apps", apps],
	[/^\/dashboard\/apps\/([^/]+)$/, "apps", null, one],
	[/^\/dashboard\/starts\/?$/, "starts", "Starts", starts],
];

function show(focus) {
	end?.();
	end = null;
	if (!me) {
		login();
		return;
	}
	const [pattern, page, title, make] = pages.find(([p]) => p.test(location.pathname)) || pages[0];
	const arg = decodeURIComponent(pattern.exec(location.pathname)?.[1] || "");
	for (const a of document.querySelectorAll("nav a")) {
		if (a.dataset.page === page)
			a.setAttribute("aria-current", "page");
		else
			a.removeAttribute("aria-current");
	}
	document.title = `${title || arg} · Cowbell`;
	main.replaceChildren();
	live("connecting");
	end = make(main, arg, me);
	scrollTo(0, 0);
	if (focus) {
		const head = main.querySelector("h1");
		head?.setAttribute("tabindex", "-1");
		(head || main).focus();
	}
}

export function go(path) {
	history.pushState(null, "", path);
	show(true);
}

document.addEventListener("click", (e) => {
	const a = e.target.closest?.("a[href]");
	if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey || a.target || a.origin !== location.origin || !a.pathname.startsWith("/dashboard") || a.hash)
		return;
	e.preventDefault();
	go(a.pathname + a.search);
});
document.querySelector(".skip").addEventListener("click", (e) => {
	e.preventDefault();
	main.focus();
	main.scrollIntoView();
});
// A page that the browser keeps to come back to holds no streams.
addEventListener("pagehide", () => {
	end?.();
	end = null;
});
addEventListener("pageshow", (e) => e.persisted && show());
addEventListener("popstate", () => show(true));
addEventListener("cowbell-login", () => {
	if (me) {
		me = null;
		show();
	}
});
document.getElementById("logout").addEventListener("click", async () => {
	// Streams and polls of the page end first: after the log-out the server refuses them.
	end?.();
	end = null;
	try {
		await api("logout", { method: "POST" });
		me = null;
		show();
	} catch (e) {
		show();
		say(e.message);
	}
});

function login() {
	top.hidden = true;
	document.title = "Log in · Cowbell";
	const token = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help" });
	const error = h("p", { class: "error", role: "alert", hidden: true }), button = h("button", { class: "primary" }, "Log in");
	const form = h("form", {
		onsubmit: async (e) => {
			e.preventDefault();
			button.disabled = true;
			error.hidden = true;
			try {
				await api("login", { method: "POST", body: { token: token.value.trim() } });
				await begin();
			} catch (x) {
				error.textContent = x.message;
				error.hidden = false;
				token.select();
				token.focus();
			}
			button.disabled = false;
		},
	}, h("label", { for: "token" }, "API token"), token, error, button);
	main.replaceChildren(h("div", { class: "login" }, h("h1", { class: "brand" }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 34, height: 34 }), h("span", {}, "Cowbell")), h("section", { class: "card", "aria-label": "Log in" }, form, h("p", { class: "soft small", id: "token-help" }, h("br"), "The administrator's token was made at the first start and is in the file ", h("code", {}, "admin-token"), " of the server's data directory."))));
	token.focus();
}

async function begin() {
	try {
		me = await api("me");
	} catch (e) {
		me = null;
		if (e.status !== 401) {
			main.replaceChildren(h("p", { class: "notice" }, e.message));
			return;
		}
	}
	top.hidden = !me;
	document.getElementById("who").textContent = me?.email || "";
	show();
}

begin();
