const http = require("http");
const route = require("./lib/router");
const text = require("./data/text.json");

route.add("/", () => text.home);
route.add("/about", () => text.about);
route.add("/number", () => "@N@");
http.createServer((req, res) => {
	const view = route.find(new URL(req.url, "http://app").pathname);
	res.writeHead(view ? 200 : 404, { "Content-Type": "text/plain; charset=utf-8" });
	res.end((view ? view() : "no such page") + "\n");
}).listen(process.env.PORT);
