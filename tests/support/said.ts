/** What is printed on standard error by `work`. */
export async function said(work: () => Promise<unknown>): Promise<string> {
  const before = console.error, lines: string[] = [];
  console.error = (line: string) => lines.push(line);
  try {
    await work();
  } finally {
    console.error = before;
  }
  return lines.join("\n");
}
