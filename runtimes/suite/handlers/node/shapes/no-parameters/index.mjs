// A default function that looks at nothing.
export default () => new Response("nothing needed");
