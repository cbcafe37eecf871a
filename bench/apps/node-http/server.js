require("http").createServer((req, res) => {
	res.setHeader("Content-Type", "text/plain; charset=utf-8");
	res.end("@TEXT@\n");
}).listen(process.env.PORT);
