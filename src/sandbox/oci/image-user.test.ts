// Users of images, as docker reads them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readUser } from "./image-user.ts";

const passwd = `root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:,,,:/home/app:/bin/false
# comment
broken:x:many:0::/:
`;
const group = "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root\napp:x:1001:app\n";
const accounts = { passwd, group };
const nobody = { passwd: null, group: null };

test("nothing said is root, in an image without a passwd too", () => {
  assert.deepEqual(readUser("", accounts), { uid: 0, gid: 0, groups: [10], home: "/root" });
  assert.deepEqual(readUser("", nobody), { uid: 0, gid: 0, groups: [], home: "/" });
});

test("a name brings its group, its home and the groups that name it", () => {
  assert.deepEqual(readUser("app", accounts), { uid: 1000, gid: 1001, groups: [50], home: "/home/app" });
});

test("a number that is somebody's is that account; one that is nobody's is itself, in group 0", () => {
  assert.deepEqual(readUser("1000", accounts), { uid: 1000, gid: 1001, groups: [50], home: "/home/app" });
  assert.deepEqual(readUser("4711", accounts), { uid: 4711, gid: 0, groups: [], home: "/" });
});

test("a group that is said is the only one", () => {
  assert.deepEqual(readUser("app:staff", accounts), { uid: 1000, gid: 50, groups: [], home: "/home/app" });
  assert.deepEqual(readUser("0:7", accounts), { uid: 0, gid: 7, groups: [], home: "/root" });
  assert.deepEqual(readUser("app:", accounts).groups, [50]);
});

test("names of nobody, and ids that a sandbox does not have, are refused in words", () => {
  assert.throws(() => readUser("www", accounts), /the user "www", who is not in its \/etc\/passwd/);
  assert.throws(() => readUser("broken", accounts), /"broken" is not an id below 65536/);
  assert.throws(() => readUser("app:www", accounts), /the group "www", which is not in its \/etc\/group/);
  assert.throws(() => readUser("70000", accounts), /70000/);
  assert.throws(() => readUser("1:70000", accounts), /70000/);
});

test("groups without members are nobody's, and what is no group's number is none", () => {
  const odd = {
    passwd: "app:x:1000:1001::/:\n:x:2000:0::/:\n",
    group: "adm:x:4:\nlog:x:many:app\nbig:x:70000:app\nok:x:7:app\n",
  };
  assert.deepEqual(readUser("4711", odd).groups, []);
  assert.deepEqual(readUser("2000", odd).groups, []);
  assert.deepEqual(readUser("app", odd).groups, [7]);
  const many = Array.from({ length: 70_000 }, (_, i) => `g${i}:x:${i % 60_000}:app`).join("\n");
  assert.throws(() => readUser("app", { passwd: odd.passwd, group: many }), /more groups than there may be/);
});

test("what an image says of itself reaches no terminal", () => {
  assert.throws(
    () => readUser("\u001b[2Jx", nobody),
    (error: Error) => !error.message.includes("\u001b"),
  );
});
