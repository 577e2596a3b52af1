// Who an image's program is: its `user`, read as docker does, against the image's own passwd and group. Pure.

import { EbbError } from "#model/errors.ts";
import { idRangeSize } from "./config.ts";

/** As the engine is told it. */
export interface ImageUser {
  readonly uid: number;
  readonly gid: number;
  /** Groups that it is in beside its first. */
  readonly groups: readonly number[];
  readonly home: string;
}

export interface Accounts {
  /** Text of /etc/passwd and /etc/group; null: there is none. */
  readonly passwd: string | null;
  readonly group: string | null;
}

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** No program has use for more, and each start tells them all. */
const groupsMax = 1_024;

/** `user`: "", "app", "1000", "app:staff", "1000:1000". EbbError image_refused where a name is nobody's. */
export function readUser(user: string, { passwd, group }: Accounts): ImageUser {
  const [asked = "", askedGroup] = user.split(":", 2);
  const accounts = linesOf(passwd).map(accountOf);
  const groups = linesOf(group).map(groupOf);
  const account = findAccount(asked === "" ? "0" : asked, accounts);
  if (askedGroup !== undefined && askedGroup !== "")
    return { uid: account.uid, gid: findGroup(askedGroup, groups), groups: [], home: account.home };
  // An id that a sandbox has not got is left out, as what is no number: the kernel would refuse all of them.
  const named = groups.filter(({ members, gid }) => members.includes(account.name) && gid < idRangeSize);
  const others = new Set(named.map(({ gid }) => gid));
  others.delete(account.gid);
  if (others.size > groupsMax) throw refused(`its user is in more groups than there may be (${groupsMax})`);
  return { uid: account.uid, gid: account.gid, groups: [...others], home: account.home };
}

function findAccount(asked: string, accounts: readonly Account[]): Account {
  const named = accounts.find(({ name }) => name === asked);
  if (named) return inRange(named, asked);
  const uid = numberOf(asked);
  if (uid === null) throw refused(`it is to run as the user ${quoted(asked)}, who is not in its /etc/passwd`);
  const known = accounts.find((account) => account.uid === uid);
  return inRange(known ?? { name: "", uid, gid: 0, home: "/" }, asked);
}

function findGroup(asked: string, groups: readonly Group[]): number {
  const gid = groups.find(({ name }) => name === asked)?.gid ?? numberOf(asked);
  if (gid === null) throw refused(`it is to run with the group ${quoted(asked)}, which is not in its /etc/group`);
  if (!(gid < idRangeSize)) throw tooLarge(asked);
  return gid;
}

function inRange(account: Account, asked: string): Account {
  // Also what is no number.
  if (!(account.uid < idRangeSize && account.gid < idRangeSize)) throw tooLarge(asked);
  return account;
}

function tooLarge(asked: string): EbbError {
  return refused(`${quoted(asked)} is not an id below ${idRangeSize}, which a sandbox has`);
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}

function refused(why: string): EbbError {
  return new EbbError("image_refused", `the image cannot be run: ${why}`);
}

function linesOf(text: string | null): string[][] {
  return (text ?? "")
    .split("\n")
    .filter((line) => line.includes(":") && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

function accountOf([name = "", , uid = "", gid = "", , home = ""]: readonly string[]): Account {
  return {
    name,
    uid: numberOf(uid) ?? Number.NaN,
    gid: numberOf(gid) ?? Number.NaN,
    home: home.startsWith("/") ? home : "/",
  };
}

function groupOf([name = "", , gid = "", members = ""]: readonly string[]): Group {
  return { name, gid: numberOf(gid) ?? Number.NaN, members: members.split(",").filter(Boolean) };
}

/** What chance or malice wrote there is no number, and matches nobody. */
function numberOf(text: string): number | null {
  return /^[0-9]{1,10}$/.test(text) ? Number(text) : null;
}
