// Records of one workload and one second, packed: what the ledger is given and keeps. A row a record cost ten times as much.
//
// A block's body, little-endian: a byte for the version, then the records in the order in which they ended, each
//   1  what it was triggered by, 0x80 for a cold start
//   1  its outcome
//   2  its status; 0: none
//   1  1: its revision, memory and instance follow (4, 4 and a text; revision 0 and an empty text: none); 0: those of the record before
//   .  its id, a text
//  64  time, waited, start-up, execution, billed, CPU (-1: not known), bytes in, bytes out, as doubles
// A text is a byte for its length and as many bytes.

import { timeOfId, type InvocationId } from "./ids.ts";
import { outcomes, triggerKinds, type InvocationRecord } from "./invocation.ts";

const version = 1;
const slotLengthMs = 1_000;
const textMaxBytes = 255;
const recordMaxBytes = 5 + 8 + 1 + textMaxBytes + 1 + textMaxBytes + 64;
const firstBytes = 1_024;
/** As much as is unpacked to find one record in it. */
const mostBytes = 64 * 1024;

export interface RecordBlock {
  readonly project: string;
  readonly workload: string;
  /** When the second began in which all of its records arrived, epoch ms. */
  readonly slotMs: number;
  readonly records: number;
  readonly body: Uint8Array;
  /** The ids that do not tell by themselves that they are in this slot. */
  readonly strayIds: readonly InvocationId[];
}

export function slotOf(timeMs: number): number {
  return Math.floor(timeMs / slotLengthMs) * slotLengthMs;
}

/** Null: its text says nothing of when it was made. */
export function slotOfId(id: InvocationId): number | null {
  const timeMs = timeOfId(id);
  return timeMs === null ? null : slotOf(timeMs);
}

/** Packs records as they come, without keeping them. */
export class RecordPacker {
  readonly #open = new Map<string, OpenBlock>();
  #full: RecordBlock[] = [];
  #last: OpenBlock | null = null;

  add(record: InvocationRecord): void {
    const block = this.#blockOf(record);
    if (block.full) this.#full.push(block.take());
    block.add(record);
  }

  /** The blocks of what was added since the last call; those of one workload and slot in the order of their records. */
  take(): RecordBlock[] {
    const blocks = this.#full;
    for (const block of this.#open.values()) blocks.push(block.take());
    this.#full = [];
    this.#open.clear();
    this.#last = null;
    return blocks;
  }

  #blockOf({ project, workload, timeMs }: InvocationRecord): OpenBlock {
    const slotMs = slotOf(timeMs);
    // Records come in crowds: a key made for each would cost more than packing it.
    const last = this.#last;
    if (last?.slotMs === slotMs && last.workload === workload && last.project === project) return last;
    const key = `${project}/${workload}/${slotMs}`;
    let block = this.#open.get(key);
    if (!block) this.#open.set(key, (block = new OpenBlock(project, workload, slotMs)));
    this.#last = block;
    return block;
  }
}

export function packRecords(records: Iterable<InvocationRecord>): RecordBlock[] {
  const packer = new RecordPacker();
  for (const record of records) packer.add(record);
  return packer.take();
}

const nothing = Buffer.alloc(0);

class OpenBlock {
  readonly project: string;
  readonly workload: string;
  readonly slotMs: number;
  #bytes = nothing;
  #view = viewOf(nothing);
  #at = 0;
  #records = 0;
  #strayIds: InvocationId[] = [];
  #revision: number | null = null;
  #instance: string | null = null;
  #memoryMb = 0;

  constructor(project: string, workload: string, slotMs: number) {
    this.project = project;
    this.workload = workload;
    this.slotMs = slotMs;
  }

  /** No room for another record of any length. */
  get full(): boolean {
    return this.#at + recordMaxBytes > mostBytes;
  }

  /** What there is, and begins anew. */
  take(): RecordBlock {
    const { project, workload, slotMs } = this;
    const body = this.#bytes.subarray(0, this.#at);
    const block = { project, workload, slotMs, records: this.#records, body, strayIds: this.#strayIds };
    this.#bytes = nothing;
    this.#at = 0;
    this.#records = 0;
    this.#strayIds = [];
    return block;
  }

  add(record: InvocationRecord): void {
    if (this.#at + recordMaxBytes > this.#bytes.length) this.#grow();
    const same =
      this.#records > 0 &&
      record.instance === this.#instance &&
      record.revision === this.#revision &&
      record.memoryMb === this.#memoryMb;
    if (this.#records === 0) this.#u8(version);
    this.#u8(triggerKinds.indexOf(record.trigger) | (record.cold ? 0x80 : 0));
    this.#u8(outcomes.indexOf(record.outcome));
    this.#view.setUint16(this.#at, record.status ?? 0, true);
    this.#at += 2;
    this.#u8(same ? 0 : 1);
    if (!same) this.#origin(record);
    this.#text(record.id);
    this.#f64(record.timeMs);
    this.#f64(record.queuedUs);
    this.#f64(record.startUs);
    this.#f64(record.executionUs);
    this.#f64(record.billedUs);
    this.#f64(record.cpuNs ?? -1);
    this.#f64(record.bytesIn);
    this.#f64(record.bytesOut);
    this.#records++;
    if (slotOfId(record.id) !== this.slotMs) this.#strayIds.push(record.id);
  }

  #origin({ revision, memoryMb, instance }: InvocationRecord): void {
    this.#revision = revision;
    this.#memoryMb = memoryMb;
    this.#instance = instance;
    this.#view.setUint32(this.#at, revision ?? 0, true);
    this.#view.setUint32(this.#at + 4, memoryMb, true);
    this.#at += 8;
    this.#text(instance ?? "");
  }
  #u8(value: number): void {
    this.#bytes[this.#at++] = value;
  }
  #f64(value: number): void {
    this.#view.setFloat64(this.#at, value, true);
    this.#at += 8;
  }
  /** ASCII by model/ids.ts. */
  #text(value: string): void {
    const length = Math.min(value.length, textMaxBytes);
    this.#bytes[this.#at] = length;
    this.#bytes.write(value, this.#at + 1, length, "latin1");
    this.#at += 1 + length;
  }
  #grow(): void {
    const bytes = Buffer.allocUnsafeSlow(Math.max(firstBytes, this.#bytes.length * 2));
    this.#bytes.copy(bytes, 0, 0, this.#at);
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** In the order in which they ended. Throws RangeError where the body is damaged, or of a version that is not known. */
export function recordsOf({
  project,
  workload,
  body,
}: Pick<RecordBlock, "project" | "workload" | "body">): InvocationRecord[] {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes[0] !== version) throw new RangeError(`a block of records has the unknown version ${bytes[0]}`);
  const records: InvocationRecord[] = [];
  let at = 1;
  const text = (): string => {
    const length = bytes.readUInt8(at);
    at += 1 + length;
    if (at > bytes.length) throw new RangeError("a block of records ends within a text");
    return bytes.toString("latin1", at - length, at);
  };
  const f64 = (): number => {
    at += 8;
    return bytes.readDoubleLE(at - 8);
  };
  let origin: Pick<InvocationRecord, "revision" | "memoryMb" | "instance"> | null = null;
  while (at < bytes.length) {
    const flags = bytes.readUInt8(at);
    const trigger = triggerKinds[flags & 0x7f];
    const outcome = outcomes[bytes.readUInt8(at + 1)];
    if (!trigger || !outcome) throw new RangeError("a block of records has an unknown trigger or outcome");
    const status = bytes.readUInt16LE(at + 2) || null;
    const told = bytes.readUInt8(at + 4) === 1;
    at += 5;
    if (told) {
      const [revision, memoryMb] = [bytes.readUInt32LE(at) || null, bytes.readUInt32LE(at + 4)];
      at += 8;
      origin = { revision, memoryMb, instance: text() || null };
    }
    if (!origin) throw new RangeError("a block of records begins without an instance");
    const id = text();
    const times = { timeMs: f64(), queuedUs: f64(), startUs: f64(), executionUs: f64(), billedUs: f64() };
    const cpuNs = f64();
    const amounts = { cpuNs: cpuNs < 0 ? null : cpuNs, bytesIn: f64(), bytesOut: f64() };
    const cold = flags >= 0x80;
    records.push({ id, project, workload, ...origin, trigger, cold, ...times, ...amounts, status, outcome });
  }
  return records;
}
