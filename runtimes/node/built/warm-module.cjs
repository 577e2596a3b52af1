// What the rehearsal loads in place of a function: CommonJS in event style.
exports.handle = () => ({ statusCode: 200, body: "warm" });
