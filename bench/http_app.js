// SPDX-License-Identifier: ISC
// The web app of http_app.py, in JavaScript. Port from the argument (8000).
require("http").createServer((request, response) => {
	response.setHeader("Content-Length", 6);
	response.end("hello\n");
}).listen(+process.argv[2] || 8000, "0.0.0.0");
