"use strict";
// TypeScript compiled to CommonJS: exports.default and __esModule.
Object.defineProperty(exports, "__esModule", { value: true });
exports.default = handler;
async function handler(request) {
  return new Response("compiled");
}
