// Two parameters whose names tell nothing.
export default function (a, b) {
  return a ?? b;
}
