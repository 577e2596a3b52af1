// Decides at once on every report, and by a timer only when the last decision named a time: an idle platform has no timers.

import type { Cancel, Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import { WorkloadMap, type ServingRevision, type WorkloadKey } from "#model/workload.ts";
import type { Fleet } from "#fleet/door.ts";
import { decide, freshMemory, type MachineView, type ScalingMemory, type ScalingSettings } from "./decide.ts";
import type { Autoscaler, KeepAlive, Load, ScaledLast } from "./door.ts";
import { isAdaptable, newPauses, pauseScaling, RememberedPauses, type Pauses } from "./pauses.ts";
import { Looks, Sampling } from "./sampling.ts";

interface State {
  revision: ServingRevision;
  memory: ScalingMemory;
  load: Load;
  /** What the fleet was last told. */
  wanted: number;
  timer: Cancel | null;
  timerAtUs: number;
  deciding: boolean;
  /** Reported while deciding: decide once more. */
  again: boolean;
  /** A report of a revision that has not become the current one yet. */
  early: Load | null;
  /** Of a workload that leaves its idle time to ebb, from its first call on. */
  pauses: Pauses | null;
  /** What its instances use; of one that scales by that. */
  readonly looks: Looks;
  last: ScaledLast | null;
}

export interface AutoscalerOptions {
  readonly fleet: Pick<Fleet, "want" | "expect" | "workloadState" | "eased" | "roomFor" | "samples">;
  readonly clock: Clock;
  readonly tell: Tell;
  readonly machine: MachineView;
  /** Of workloads that do not say how long they are kept. */
  readonly keepAlive?: KeepAlive;
  /** CPUs of the machine: no instance gets more. */
  readonly cpus: number;
}

/** A report inside a report (the fleet drains, the activator reports) is decided after it; more often than this is a defect. */
const decisionsInARow = 16;

export function createAutoscaler(options: AutoscalerOptions): Autoscaler {
  const { fleet, clock, tell, machine } = options;
  const learns = options.keepAlive === "histogram";
  /** Everything that is deployed; the fleet expects its calls. */
  const serving = new WorkloadMap<ServingRevision>();
  /** Of what has been called or has a `min`: the rest is not decided about, and costs no more than its revision. */
  const states = new WorkloadMap<State>();
  const remembered = new RememberedPauses();
  const sampling = new Sampling({ fleet, clock, cpus: options.cpus });
  let running = false;
  let draining = false;

  function report(load: Load): void {
    if (!running) return;
    const key = load.revision;
    let state = states.get(key);
    if (!state) {
      state = fresh(serving.get(key) ?? load.revision);
      states.set(key, state);
    }
    if (state.revision.number !== load.revision.number) {
      state.early = load;
      return;
    }
    const eased = load.active < state.load.active;
    state.load = load;
    settle(key, state);
    if (eased) fleet.eased();
  }

  function changed(project: string, workload: string, revision: ServingRevision | null): void {
    const key = { project, workload };
    const served = serving.get(key) ?? null;
    if (revision) serving.set(key, revision);
    else serving.delete(key);
    if (served?.number !== revision?.number) fleet.expect(served, revision);
    const before = states.get(key);
    if (before && revision && before.revision.number === revision.number) {
      before.revision = revision;
      if (running) settle(key, before);
      return;
    }
    if (before) {
      cancel(before);
      sampling.stop(before.looks);
      states.delete(key);
      if (before.wanted > 0) fleet.want(before.revision, 0, [revision ? "another revision serves" : "removed"]);
    }
    const early = before?.early?.revision.number === revision?.number ? before?.early : null;
    let pauses = before?.pauses ?? null;
    if (pauses !== null && (!revision || !isAdaptable(revision))) {
      remembered.forget(pauses);
      pauses = null;
    }
    if (!revision || (!early && pauses === null && revision.settings.min === 0)) return;
    const state = fresh(revision);
    if (pauses !== null) {
      remembered.interrupted(pauses);
      state.pauses = pauses;
    }
    if (early) state.load = early;
    states.set(key, state);
    if (running) settle(key, state);
  }

  function settle(key: WorkloadKey, state: State): void {
    if (state.deciding) {
      state.again = true;
      return;
    }
    state.deciding = true;
    try {
      for (let i = 0; i < decisionsInARow; i++) {
        state.again = false;
        decideOnce(key, state);
        if (!state.again) return;
      }
      // Left over: the timer that is armed, or the next report, goes on from here.
      arm(key, state, clock.monotonicUs() + 1000);
    } finally {
      state.deciding = false;
    }
  }

  function decideOnce(key: WorkloadKey, state: State): void {
    const nowUs = clock.monotonicUs();
    // How many are on their way is the fleet's knowledge; starts that only wait for their turn are not.
    const starting = fleet.workloadState(state.revision).starting;
    const load = starting === state.load.starting ? state.load : { ...state.load, starting };
    const { scaling, againAtUs } = scalingOf(state, load, nowUs);
    const decision = decide(load, scaling, machine, state.memory, nowUs);
    state.memory = decision.memory;
    arm(key, state, earlier(decision.decideAgainAtUs, againAtUs));
    const before = state.wanted;
    const { wanted } = decision;
    if (wanted === before && wanted === load.ready + starting) return;
    state.wanted = wanted;
    if (wanted !== before) {
      const { project, workload } = state.revision;
      const { reasons } = decision;
      state.last = { timeMs: clock.wallMs(), from: before, to: wanted, reasons };
      tell({ kind: "scaled", project, workload, from: before, to: wanted, reasons });
    }
    fleet.want(state.revision, wanted, decision.reasons);
  }

  /** Its settings, but for what is made of its pauses. */
  function scalingOf(state: State, load: Load, nowUs: number): { scaling: ScalingSettings; againAtUs: number | null } {
    const { revision } = state;
    if (draining) return { scaling: { ...revision.settings, min: 0, idleSeconds: 0 }, againAtUs: null };
    const busy = load.waiting + load.active > 0;
    sampling.settle(state.looks, revision, busy, () => {
      if (running && states.get(revision) === state) settle(revision, state);
    });
    const { pressed } = state.looks;
    const settings = pressed === null ? revision.settings : { ...revision.settings, pressed };
    if (!learns || !isAdaptable(revision)) return { scaling: settings, againAtUs: null };
    if (state.pauses === null && !busy) return { scaling: settings, againAtUs: null };
    state.pauses ??= newPauses();
    remembered.seen(state.pauses, busy, nowUs);
    const leadUs = Math.round((load.startMs ?? machine.typicalStartMs) * 1_000);
    const mayStart = (): boolean => fleet.workloadState(revision).state === "ready" && fleet.roomFor(revision);
    const pause = pauseScaling(state.pauses, settings.idleSeconds, load.ready + load.starting, leadUs, nowUs, mayStart);
    if (pause === null) return { scaling: settings, againAtUs: null };
    const { idleSeconds, expecting, againAtUs } = pause;
    return { scaling: { ...settings, idleSeconds, expecting }, againAtUs };
  }

  /** An armed timer that is too early, as that of the pause before a call, only decides once more; one for each call would cost more. */
  function arm(key: WorkloadKey, state: State, atUs: number | null): void {
    if (atUs === null) return state.load.active > 0 ? undefined : cancel(state);
    if (state.timer && state.timerAtUs <= atUs) return;
    cancel(state);
    state.timerAtUs = atUs;
    state.timer = clock.after(Math.max(0, Math.ceil((atUs - clock.monotonicUs()) / 1000)), () => {
      state.timer = null;
      if (running && states.get(key) === state) settle(key, state);
    });
  }

  function cancel(state: State): void {
    state.timer?.();
    state.timer = null;
  }

  return {
    start() {
      running = true;
      for (const state of states.values()) settle(state.revision, state);
    },
    drain() {
      draining = true;
      for (const state of states.values()) settle(state.revision, state);
    },
    stop() {
      running = false;
      for (const state of states.values()) {
        cancel(state);
        sampling.stop(state.looks);
      }
      states.clear();
      serving.clear();
    },
    report,
    changed,
    scaled(key) {
      const state = states.get(key);
      return { percent: state?.looks.percent ?? null, last: state?.last ?? null };
    },
  };
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function fresh(revision: ServingRevision): State {
  return {
    revision,
    memory: freshMemory,
    load: {
      revision,
      waiting: 0,
      active: 0,
      ready: 0,
      starting: 0,
      lastActiveUs: null,
      executionMs: null,
      startMs: null,
    },
    wanted: 0,
    timer: null,
    timerAtUs: 0,
    deciding: false,
    again: false,
    early: null,
    pauses: null,
    looks: new Looks(),
    last: null,
  };
}
