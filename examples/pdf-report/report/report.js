// Renders one month's orders as a PDF: a table with a bar for each day. No package: a PDF is text, and a table of offsets.
import { readFileSync, writeFileSync } from "node:fs";
import { pdf } from "./pdf.js";

const month = process.argv[2] ?? "2026-11";
const orders = JSON.parse(readFileSync(new URL("./orders.json", import.meta.url), "utf8"));
const days = orders.filter(({ day }) => day.startsWith(`${month}-`));
if (days.length === 0) {
  console.error(`no orders in ${month}`);
  process.exit(1);
}

const most = Math.max(...days.map(({ total }) => total));
const sum = days.reduce((all, { total }) => all + total, 0);
const lines = [
  { size: 20, text: `Orders of ${month}` },
  { size: 12, text: `${days.length} days, ${sum.toFixed(2)} EUR` },
];
for (const { day, total } of days)
  lines.push({ size: 11, text: `${day}   ${total.toFixed(2)} EUR`, bar: total / most });

writeFileSync(process.env.EBB_RESULT ?? "report.pdf", pdf(lines));
console.log(`${month}: ${days.length} days, ${sum.toFixed(2)} EUR`);
