// The journal's frames: how one mark is laid out in bytes, written and read back. Little-endian throughout.
//
// A frame is a header of 8 bytes and a payload of at most 255:
//   0  2  marker eb b1, where a reader finds its feet again after damage
//   2  1  kind
//   3  1  length of the payload
//   4  4  CRC-32 of kind, length and payload, seeded with the frame's own place (segment, offset)
// The seed makes a frame valid only where it was written: bytes that a failing disk put elsewhere are not believed.

import { outcomes, triggerKinds, type Outcome, type TriggerKind } from "#model/invocation.ts";
import { crc32 } from "./crc32.ts";

export const headerBytes = 8;
const maxPayloadBytes = 255;
const markerLow = 0xeb;
const markerHigh = 0xb1;
/** Names in frames are ASCII by model/names.ts and model/ids.ts; what is longer is cut, never the frame's bound. */
const textMaxBytes = 64;

/** Numbers are written to disk: never reorder, only append. */
const kinds = ["open", "instance", "begin", "answered", "end", "alive", "close", "refused", "tick", "resume"] as const;

/** A daemon begins to write: whatever was active before it is over. Pairs the two clocks. */
export interface OpenFrame {
  readonly kind: "open";
  readonly bootId: string;
  readonly wallMs: number;
  readonly atUs: number;
  /** Owner's epoch: rises with each start of a daemon on this journal. */
  readonly epoch: number;
}
export interface InstanceFrame {
  readonly kind: "instance";
  readonly instance: number;
  readonly atUs: number;
  readonly id: string;
  readonly project: string;
  readonly workload: string;
  readonly revision: number;
  readonly memoryMb: number;
  /** How many instances the revision keeps (`min`): idle ones up to this number are provisioned. */
  readonly min: number;
}
export interface BeginFrame {
  readonly kind: "begin";
  readonly instance: number;
  /** What its later marks call it. */
  readonly invocation: number;
  readonly atUs: number;
  readonly id: string;
  readonly trigger: TriggerKind;
  readonly timeMs: number;
  readonly queuedUs: number;
  readonly startUs: number;
  readonly cold: boolean;
  /** The instance's counter; null where not read (others are active) or not known. */
  readonly cpuNs: number | null;
}
export interface AnsweredFrame {
  readonly kind: "answered";
  readonly instance: number;
  readonly invocation: number;
  readonly atUs: number;
  readonly status: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
}
export interface EndFrame {
  readonly kind: "end";
  readonly instance: number;
  readonly invocation: number;
  readonly atUs: number;
  readonly outcome: Outcome;
  readonly status: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly cpuNs: number | null;
}
export interface AliveFrame {
  readonly kind: "alive";
  readonly instance: number;
  readonly atUs: number;
  readonly cpuNs: number | null;
}
export interface CloseFrame {
  readonly kind: "close";
  readonly instance: number;
  readonly atUs: number;
}
/** An invocation that ran nowhere; one mark is the whole of it. */
export interface RefusedFrame {
  readonly kind: "refused";
  readonly atUs: number;
  readonly id: string;
  readonly project: string;
  readonly workload: string;
  readonly revision: number | null;
  readonly trigger: TriggerKind;
  readonly timeMs: number;
  readonly queuedUs: number;
  readonly startUs: number;
  readonly cold: boolean;
  readonly outcome: Outcome;
  readonly status: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
}
/** The daemon lives: what is provisioned and idle is counted up to here. Pairs the clocks again. */
export interface TickFrame {
  readonly kind: "tick";
  readonly atUs: number;
  readonly wallMs: number;
}
/**
 * Written before the open of a new daemon: what the one before has begun in this instance is not over, and goes on under these numbers.
 */
export interface ResumeFrame {
  readonly kind: "resume";
  readonly atUs: number;
  readonly instance: number;
  readonly invocation: number;
  readonly id: string;
}

export type Frame =
  | OpenFrame
  | InstanceFrame
  | BeginFrame
  | AnsweredFrame
  | EndFrame
  | AliveFrame
  | CloseFrame
  | RefusedFrame
  | TickFrame
  | ResumeFrame;

/** Room that a begun invocation still needs: for its `answered`, and for its `end`. */
export const answeredReserveBytes = headerBytes + 4 + 4 + 8 + 2 + 8 + 8;
export const endReserveBytes = headerBytes + 4 + 4 + 8 + 8 + 1 + 2 + 8 + 8;
/** Room that an open instance still needs: its `close`. */
export const closeReserveBytes = headerBytes + 4 + 8;

/** Frames on their way out, one after the other; reused for every turn. */
export class FrameBuffer {
  readonly bytes: Buffer;
  length = 0;
  #view: DataView;
  #at = 0;

  constructor(capacityBytes = 64 * 1024) {
    this.bytes = Buffer.allocUnsafeSlow(capacityBytes);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
  }

  reset(): void {
    this.length = 0;
  }

  /** Forgets what was pushed since the buffer was so long. */
  truncate(length: number): void {
    this.length = length;
  }

  /** Frames that were copied out of a buffer before, to be sealed for another place. */
  pushCopied(frames: Buffer): void {
    if (this.length + frames.length > this.bytes.length) throw new RangeError("frame buffer is full");
    frames.copy(this.bytes, this.length);
    this.length += frames.length;
  }

  /** No room for another frame of any kind. */
  get full(): boolean {
    return this.length + headerBytes + maxPayloadBytes > this.bytes.length;
  }

  push(frame: Frame): void {
    if (this.full) throw new RangeError("frame buffer is full");
    this.#at = this.length + headerBytes;
    this.#payload(frame);
    const bytes = this.bytes;
    bytes[this.length] = markerLow;
    bytes[this.length + 1] = markerHigh;
    bytes[this.length + 2] = kinds.indexOf(frame.kind) + 1;
    bytes[this.length + 3] = this.#at - this.length - headerBytes;
    this.length = this.#at;
  }

  /** Writes each frame's CRC for the place where it will stand; call last, when the place is known. */
  seal(segment: number, offset: number): void {
    const { bytes, length } = this;
    for (let at = 0; at < length;) {
      const size = headerBytes + bytes[at + 3]!;
      this.#view.setUint32(at + 4, checksum(bytes, at, size, segment, offset + at), true);
      at += size;
    }
  }

  #payload(frame: Frame): void {
    switch (frame.kind) {
      case "begin":
        this.#u32(frame.instance);
        this.#u32(frame.invocation);
        this.#f64(frame.atUs);
        this.#u8(triggerKinds.indexOf(frame.trigger) | (frame.cold ? 0x80 : 0));
        this.#f64(frame.timeMs);
        this.#f64(frame.queuedUs);
        this.#f64(frame.startUs);
        this.#f64(frame.cpuNs ?? -1);
        return this.#text(frame.id);
      case "end":
        this.#u32(frame.instance);
        this.#u32(frame.invocation);
        this.#f64(frame.atUs);
        this.#f64(frame.cpuNs ?? -1);
        this.#u8(outcomes.indexOf(frame.outcome));
        return this.#answer(frame);
      case "answered":
        this.#u32(frame.instance);
        this.#u32(frame.invocation);
        this.#f64(frame.atUs);
        return this.#answer(frame);
      case "alive":
        this.#u32(frame.instance);
        this.#f64(frame.atUs);
        return this.#f64(frame.cpuNs ?? -1);
      case "close":
        this.#u32(frame.instance);
        return this.#f64(frame.atUs);
      case "tick":
        this.#f64(frame.atUs);
        return this.#f64(frame.wallMs);
      case "resume":
        this.#f64(frame.atUs);
        this.#u32(frame.instance);
        this.#u32(frame.invocation);
        return this.#text(frame.id);
      case "instance":
        this.#u32(frame.instance);
        this.#f64(frame.atUs);
        this.#u32(frame.revision);
        this.#u32(frame.memoryMb);
        this.#u32(frame.min);
        this.#text(frame.id);
        this.#text(frame.project);
        return this.#text(frame.workload);
      case "open":
        this.#f64(frame.wallMs);
        this.#f64(frame.atUs);
        this.#f64(frame.epoch);
        return this.#text(frame.bootId);
      case "refused":
        this.#f64(frame.atUs);
        this.#u8(triggerKinds.indexOf(frame.trigger) | (frame.cold ? 0x80 : 0));
        this.#u8(outcomes.indexOf(frame.outcome));
        this.#f64(frame.timeMs);
        this.#f64(frame.queuedUs);
        this.#f64(frame.startUs);
        this.#u32(frame.revision ?? 0);
        this.#answer(frame);
        this.#text(frame.id);
        this.#text(frame.project);
        return this.#text(frame.workload);
    }
  }

  #answer(of: { status: number | null; bytesIn: number; bytesOut: number }): void {
    this.#view.setUint16(this.#at, of.status ?? 0, true);
    this.#at += 2;
    this.#f64(of.bytesIn);
    this.#f64(of.bytesOut);
  }
  #u8(value: number): void {
    this.bytes[this.#at++] = value;
  }
  #u32(value: number): void {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }
  #f64(value: number): void {
    this.#view.setFloat64(this.#at, value, true);
    this.#at += 8;
  }
  #text(value: string): void {
    const length = Math.min(value.length, textMaxBytes);
    this.bytes[this.#at] = length;
    this.bytes.write(value, this.#at + 1, length, "latin1");
    this.#at += 1 + length;
  }
}

function checksum(bytes: Buffer, at: number, size: number, segment: number, offset: number): number {
  const seed = (Math.imul(segment, 0x9e3779b1) ^ Math.imul(offset, 0x85ebca6b)) >>> 0;
  const first = crc32(bytes, at + 2, at + 4, seed);
  return crc32(bytes, at + headerBytes, at + size, first);
}

/** Reads the frames of one stretch of a segment, in place. */
export class FrameReader {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #segment: number;
  /** Where the stretch begins in its segment. */
  readonly #base: number;
  #at = 0;

  constructor(bytes: Buffer, segment: number, base: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#segment = segment;
    this.#base = base;
  }

  /** Size of the whole frame that stands at `at`; 0: none, or damaged; -1: the stretch ends inside it. */
  sizeAt(at: number): number {
    const bytes = this.#bytes;
    if (at + headerBytes > bytes.length) return at < bytes.length && bytes[at] === markerLow ? -1 : 0;
    if (bytes[at] !== markerLow || bytes[at + 1] !== markerHigh) return 0;
    const kind = bytes[at + 2]!;
    if (kind === 0 || kind > kinds.length) return 0;
    const size = headerBytes + bytes[at + 3]!;
    if (at + size > bytes.length) return -1;
    const sum = checksum(bytes, at, size, this.#segment, this.#base + at);
    return sum === this.#view.getUint32(at + 4, true) ? size : 0;
  }

  /** The frame at `at`, which `sizeAt` has found whole. Null: whole, but of no sense (a writer's defect). */
  frameAt(at: number): Frame | null {
    const kind = kinds[this.#bytes[at + 2]! - 1]!;
    this.#at = at + headerBytes;
    const end = this.#at + this.#bytes[at + 3]!;
    try {
      const frame = this.#payload(kind);
      return this.#at === end ? frame : null;
    } catch (error) {
      if (error instanceof RangeError) return null;
      throw error;
    }
  }

  #payload(kind: Frame["kind"]): Frame {
    switch (kind) {
      case "begin": {
        const instance = this.#u32();
        const invocation = this.#u32();
        const atUs = this.#f64();
        const flags = this.#u8();
        const timeMs = this.#f64();
        const queuedUs = this.#f64();
        const startUs = this.#f64();
        const cpuNs = this.#counter();
        const id = this.#text();
        const how = { trigger: trigger(flags), cold: flags >= 0x80 };
        return { kind, instance, invocation, atUs, id, ...how, timeMs, queuedUs, startUs, cpuNs };
      }
      case "end": {
        const instance = this.#u32();
        const invocation = this.#u32();
        const atUs = this.#f64();
        const cpuNs = this.#counter();
        const outcome = outcomeOf(this.#u8());
        const { status, bytesIn, bytesOut } = this.#answer();
        return { kind, instance, invocation, atUs, outcome, status, bytesIn, bytesOut, cpuNs };
      }
      case "answered": {
        const instance = this.#u32();
        const invocation = this.#u32();
        const atUs = this.#f64();
        const { status, bytesIn, bytesOut } = this.#answer();
        return { kind, instance, invocation, atUs, status, bytesIn, bytesOut };
      }
      case "alive":
        return { kind, instance: this.#u32(), atUs: this.#f64(), cpuNs: this.#counter() };
      case "close":
        return { kind, instance: this.#u32(), atUs: this.#f64() };
      case "tick":
        return { kind, atUs: this.#f64(), wallMs: this.#f64() };
      case "resume":
        return { kind, atUs: this.#f64(), instance: this.#u32(), invocation: this.#u32(), id: this.#text() };
      case "instance":
        return {
          kind,
          instance: this.#u32(),
          atUs: this.#f64(),
          revision: this.#u32(),
          memoryMb: this.#u32(),
          min: this.#u32(),
          id: this.#text(),
          project: this.#text(),
          workload: this.#text(),
        };
      case "open":
        return { kind, wallMs: this.#f64(), atUs: this.#f64(), epoch: this.#f64(), bootId: this.#text() };
      default:
        return this.#refused();
    }
  }

  #refused(): RefusedFrame {
    const atUs = this.#f64();
    const flags = this.#u8();
    const outcome = outcomeOf(this.#u8());
    const times = { timeMs: this.#f64(), queuedUs: this.#f64(), startUs: this.#f64() };
    const revision = this.#u32() || null;
    const answer = this.#answer();
    const names = { id: this.#text(), project: this.#text(), workload: this.#text() };
    const how = { trigger: trigger(flags), cold: flags >= 0x80, outcome };
    return { kind: "refused", atUs, revision, ...names, ...how, ...times, ...answer };
  }

  #answer(): { status: number | null; bytesIn: number; bytesOut: number } {
    const status = this.#view.getUint16(this.#at, true) || null;
    this.#at += 2;
    return { status, bytesIn: this.#f64(), bytesOut: this.#f64() };
  }
  #u8(): number {
    return this.#view.getUint8(this.#at++);
  }
  #u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }
  #f64(): number {
    this.#at += 8;
    return this.#view.getFloat64(this.#at - 8, true);
  }
  #counter(): number | null {
    const value = this.#f64();
    return value < 0 ? null : value;
  }
  #text(): string {
    const length = this.#u8();
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new RangeError("text beyond the stretch");
    return this.#bytes.toString("latin1", this.#at - length, this.#at);
  }
}

function trigger(flags: number): TriggerKind {
  const found = triggerKinds[flags & 0x7f];
  if (found === undefined) throw new RangeError("unknown trigger");
  return found;
}

function outcomeOf(number: number): Outcome {
  const found = outcomes[number];
  if (found === undefined) throw new RangeError("unknown outcome");
  return found;
}
