// SPDX-License-Identifier: ISC
const http = require('http');
const { Worker, isMainThread, parentPort } = require('worker_threads');

if (!isMainThread) {
  let n = 0;
  for (let i = 0; i < 1e6; i++) n += i % 7;
  parentPort.postMessage(n);
} else {
  http.createServer((req, res) => {
    if (req.url === '/work') {
      const w = new Worker(__filename);
      w.on('message', (n) => res.end(String(n)));
      w.on('error', (e) => { res.statusCode = 500; res.end(String(e)); });
    } else {
      res.end('hello from node ' + req.url);
    }
  }).listen(8080);
}
