// What the pooled shim imports once, so that the machinery of CommonJS is loaded when its function comes.
exports.warm = true;
