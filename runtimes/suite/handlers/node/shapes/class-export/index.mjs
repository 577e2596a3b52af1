// A class is not a handler.
export default class Handler {
  run() {}
}
