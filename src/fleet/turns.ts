// Whose turn it is to start: projects in turn, and within a project its revisions in turn. Nobody starts twice while another waits.

export class Turns<T> {
  /** A Map keeps its order of insertion: its first key is next. */
  readonly #projects = new Map<string, Set<T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** At the end of its project's row; once only. */
  add(project: string, one: T): void {
    let row = this.#projects.get(project);
    if (!row) {
      row = new Set();
      this.#projects.set(project, row);
    }
    if (row.has(one)) return;
    row.add(one);
    this.#size++;
  }

  delete(project: string, one: T): void {
    const row = this.#projects.get(project);
    if (!row?.delete(one)) return;
    this.#size--;
    if (row.size === 0) this.#projects.delete(project);
  }

  /** Takes the next out; its project goes to the end. */
  take(): T | null {
    for (const [project, row] of this.#projects) {
      this.#projects.delete(project);
      for (const one of row) {
        row.delete(one);
        this.#size--;
        if (row.size > 0) this.#projects.set(project, row);
        return one;
      }
    }
    return null;
  }
}
