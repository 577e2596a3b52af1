// What the rehearsal loads in place of a function: an ES module in web style.
export default () => new Response("warm");
