// SPDX-License-Identifier: ISC
// N worker threads compute; prints the rounds of all of them in a second. Counted from when all are ready.
const { Worker, isMainThread, parentPort } = require('worker_threads');
const ROUNDS = 4e8;

if (isMainThread) {
	const n = Number(process.argv[2]);
	let ready = 0, done = 0, start;
	const workers = Array.from({ length: n }, () => new Worker(__filename));
	for (const w of workers)
		w.on('message', (m) => {
			if (m === 'ready' && ++ready === n) {
				start = process.hrtime.bigint();
				for (const x of workers)
					x.postMessage('go');
			} else if (m === 'done' && ++done === n) {
				console.log(n * ROUNDS / (Number(process.hrtime.bigint() - start) / 1e9));
				process.exit(0);
			}
		});
} else {
	parentPort.on('message', () => {
		let x = 1;
		for (let k = 0; k < ROUNDS; k++)
			x = (x * 5 + 1) | 0;
		parentPort.postMessage(x === 42 ? '' : 'done');
	});
	parentPort.postMessage('ready');
}
