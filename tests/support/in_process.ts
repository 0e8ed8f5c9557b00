import { findTensorFlow } from "../../lib/engine/install.ts";

const ROOT = new URL("../../", import.meta.url);

/** Where this process finds the system, its libraries and graphics drivers. */
const DRIVERS = Object.fromEntries(
  Object.entries(Deno.env.toObject()).filter(([name]) =>
    /^(LD_LIBRARY_PATH$|VK_|SystemRoot$|WINE)/i.test(name)
  ),
);

/** Runs code with `useEngine` and `tf` in a process of its own, without TensorFlow unless `env` leads to one. */
export async function inProcess(
  code: string,
  env: Record<string, string> = {},
): Promise<{ stdout: string; stderr: string }> {
  const empty = await Deno.makeTempDir();
  const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], cwd: ROOT }).output();
  const denoDir = JSON.parse(new TextDecoder().decode(info.stdout)).denoDir;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--ext=ts", `import { currentEngine, tf, useEngine } from "nepa"; ${code}`],
    cwd: ROOT,
    clearEnv: true,
    env: {
      ...DRIVERS,
      HOME: empty,
      LOCALAPPDATA: empty,
      PATH: empty,
      DENO_DIR: denoDir,
      NEPA_OFFLINE: "1",
      NO_COLOR: "1",
      NEPA_QUIET: "1",
      ...env,
    },
  });
  const { stdout, stderr } = await child.output(), decoder = new TextDecoder();
  await Deno.remove(empty, { recursive: true });
  return { stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Where TensorFlow is, for the environment of such a process. */
export async function tensorflowLibrary(): Promise<string> {
  const found = await findTensorFlow();
  if ("missing" in found) throw new Error(found.missing);
  return found.library;
}
