/** Runs notebooks by real Jupyter, without a browser. @module */
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
  const options = ["--to", "notebook", "--stdin", "--stdout", "--log-level", "ERROR"];
  const execution = ["timeout=None", "record_timing=False"].map((o) => `--ExecutePreprocessor.${o}`);
  const child = new Deno.Command(python, {
    args: ["-m", "nbconvert", ...options, "--execute", ...execution],
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
    const said = new TextDecoder().decode(stderr).trim(); // the cell's own words follow Jupyter's stack
    throw new NotebookError(said.slice(Math.max(0, said.indexOf("An error occurred while executing"))));
  }
  return new TextDecoder().decode(stdout);
}
