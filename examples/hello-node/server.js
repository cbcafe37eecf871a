// SPDX-License-Identifier: ISC
require("http").createServer((req, res) => res.end("Hello from Node.js " + process.version + "\n")).listen(process.env.PORT);
