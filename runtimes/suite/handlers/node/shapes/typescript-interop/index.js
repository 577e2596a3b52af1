"use strict";
// TypeScript compiled to CommonJS whose default export is an object: imported, it is default.default.
Object.defineProperty(exports, "__esModule", { value: true });
exports.default = { fetch: () => new Response("twice wrapped") };
