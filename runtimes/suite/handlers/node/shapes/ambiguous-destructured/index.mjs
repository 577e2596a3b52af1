// Two parameters without names.
export default ({ body }, { headers }) => [body, headers];
