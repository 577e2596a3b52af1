// Secrets at rest: AES-256-GCM, bound to what they belong to, so that a sealed value cannot be moved to another name.

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { EbbError } from "#model/errors.ts";

const format = 1;
const nonceBytes = 12;
const tagBytes = 16;
const headBytes = 1 + nonceBytes + tagBytes;

/** What a value is bound to (the additional authenticated data). */
export interface Binding {
  readonly project: string;
  readonly name: string;
  readonly version: number;
}

function boundTo({ project, name, version }: Binding): Buffer {
  // JSON quotes each part: no two bindings make the same bytes.
  return Buffer.from(JSON.stringify(["ebb secret", project, name, version]));
}

/** base64 of: format byte, nonce, tag, ciphertext. */
export function sealValue(key: Buffer, binding: Binding, value: string): string {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(boundTo(binding));
  const text = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return Buffer.concat([Buffer.of(format), nonce, cipher.getAuthTag(), text]).toString("base64");
}

/** Throws EbbError internal when the value was sealed with another key, for something else, or was changed. */
export function openValue(key: Buffer, binding: Binding, sealed: string): string {
  const bytes = Buffer.from(sealed, "base64");
  try {
    if (bytes.length < headBytes || bytes[0] !== format) throw new Error("not a sealed value");
    const nonce = bytes.subarray(1, 1 + nonceBytes);
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: tagBytes });
    decipher.setAAD(boundTo(binding));
    decipher.setAuthTag(bytes.subarray(1 + nonceBytes, headBytes));
    return Buffer.concat([decipher.update(bytes.subarray(headBytes)), decipher.final()]).toString("utf8");
  } catch (cause) {
    throw new EbbError(
      "internal",
      `the secret ${binding.name} of project ${binding.project} cannot be opened with this data directory's key; set it again`,
      { cause },
    );
  }
}
