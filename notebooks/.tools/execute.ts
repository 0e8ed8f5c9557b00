/** Runs notebooks by real Jupyter, without a browser. @module */
import { join } from "node:path";
import { jupyterEnvironment } from "./setup.ts";

/** A cell of a notebook threw; the message holds the cell and what it said. */
export class NotebookError extends Error {
  override name = "NotebookError";
}

/**
 * Runs every cell of a notebook in Deno's kernel.
 *
 * @param notebook The text of a notebook's file.
 * @param folder The kernel's working folder.
 * @param environment Environment variables for the kernel, beside the process's own.
 * @returns The text of the file with the outputs.
 * @throws {NotebookError} When a cell throws.
 */
export async function executeNotebook(
  notebook: string,
  folder: string,
  environment: Record<string, string> = {},
): Promise<string> {
  const { python, variables } = await jupyterEnvironment("execute");
  const child = new Deno.Command(python, {
    args: [join(import.meta.dirname!, "execute.py")],
    cwd: folder,
    env: { ...variables, ...environment },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(notebook));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  if (!success) {
    const said = new TextDecoder().decode(stderr); // the kernel's own words at its start come first
    throw new NotebookError(said.slice(Math.max(0, said.indexOf("An error occurred"))).trim());
  }
  return new TextDecoder().decode(stdout);
}
