// SPDX-License-Identifier: ISC
const app = require('express')();
app.get('/:name', (req, res) => res.json({ hello: req.params.name }));
app.listen(8080);
