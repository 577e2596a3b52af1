// An object whose handler needs its `this`.
class Service {
  #name = "service";
  async fetch() {
    return new Response(`this is ${this.#name}`);
  }
}
export default new Service();
