const table = new Map();
exports.add = (path, view) => table.set(path, view);
exports.find = (path) => table.get(path);
