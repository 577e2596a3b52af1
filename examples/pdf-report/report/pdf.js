// The smallest PDF that shows lines of text with bars beside them: PDF 1.4, Helvetica, A4, as many pages as it takes.

const [width, height, margin] = [595, 842, 56];

export function pdf(lines) {
  const objects = [];
  const add = (text) => objects.push(text);
  const pages = [];
  let page = [];
  let y = height - margin;
  for (const { size, text, bar } of lines) {
    y -= size * 1.8;
    if (y < margin) {
      pages.push(page);
      page = [];
      y = height - margin - size * 1.8;
    }
    page.push(`BT /F1 ${size} Tf ${margin} ${y.toFixed(1)} Td (${escaped(text)}) Tj ET`);
    if (bar !== undefined) page.push(`0.2 0.4 0.7 rg 260 ${y.toFixed(1)} ${(280 * bar).toFixed(1)} 9 re f 0 g`);
  }
  pages.push(page);

  // 1 catalog, 2 pages, 3 font; then each page and its content.
  const numbers = pages.map((_, i) => 4 + 2 * i);
  add("<< /Type /Catalog /Pages 2 0 R >>");
  add(`<< /Type /Pages /Count ${pages.length} /Kids [${numbers.map((n) => `${n} 0 R`).join(" ")}] >>`);
  add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
  for (const [i, content] of pages.entries()) {
    const stream = content.join("\n");
    add(
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width} ${height}] /Contents ${numbers[i] + 1} 0 R ` +
        "/Resources << /Font << /F1 3 0 R >> >> >>",
    );
    add(`<< /Length ${Buffer.byteLength(stream, "latin1")} >>\nstream\n${stream}\nendstream`);
  }

  let file = "%PDF-1.4\n";
  const offsets = objects.map((text, i) => {
    const at = file.length;
    file += `${i + 1} 0 obj\n${text}\nendobj\n`;
    return at;
  });
  const table = file.length;
  file += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`;
  for (const at of offsets) file += `${String(at).padStart(10, "0")} 00000 n \n`;
  file += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return Buffer.from(file, "latin1");
}

function escaped(text) {
  return text.replaceAll(/[\\()]/g, "\\$&").replaceAll(/[^\x20-\x7e\xa0-\xff]/g, "?");
}
