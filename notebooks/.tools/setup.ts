/**
 * The project's own Python environment, in `.venv`: what runs notebooks. Nothing is written outside the project
 * folder; pip keeps its downloads in its own cache.
 *
 * `deno task setup` installs all of it and TensorFlow; `deno task setup --gpu` takes TensorFlow's build for NVIDIA
 * GPUs. `deno task jupyter` does the same and opens JupyterLab on `notebooks/`, or on another folder:
 * `deno task jupyter --notebook-dir=../mine`. JupyterLab's other options stand after `--`: `-- --ServerApp.token=…`.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { join, resolve } from "node:path";
import { OptionError, readOptions, runTask, toArguments } from "../../bench/options.ts";

/** The project's folder. */
export const PROJECT: string = fileURLToPath(new URL("../..", import.meta.url));
/** The folder in which notebooks lie, and in which their kernels run. */
export const NOTEBOOKS: string = join(PROJECT, "notebooks");
const VENV = join(PROJECT, ".venv");
const PYTHON = join(VENV, ...(Deno.build.os === "windows" ? ["Scripts", "python.exe"] : ["bin", "python"]));

/** What pip installs, by what it is for. */
const REQUIREMENTS = {
  /** Runs a notebook without a browser. */
  execute: ["nbclient==0.11.0"],
  /** For people. The plotly package carries the JupyterLab extension that draws live graphs. */
  lab: ["nbclient==0.11.0", "jupyterlab==4.6.6", "plotly==7.1.0"],
} as const;

/** A Python with Jupyter in it. */
export interface JupyterEnvironment {
  /** Path of the interpreter. */
  python: string;
  /** Environment variables with which Jupyter keeps to the project's folder and finds Deno's kernel. */
  variables: Record<string, string>;
}

/**
 * Makes sure that `.venv` has what is asked for, and Deno's kernel. Done once; safe when two processes do it at once.
 *
 * @param purpose "execute" to run notebooks unattended (3 MB to download), "lab" for JupyterLab (56 MB).
 * @throws {Error} Where there is no Python 3.10 or later, or pip fails; with the remedy.
 */
export async function jupyterEnvironment(purpose: keyof typeof REQUIREMENTS): Promise<JupyterEnvironment> {
  await Deno.mkdir(VENV, { recursive: true });
  using lock = await Deno.open(join(VENV, ".lock"), { create: true, write: true });
  await lock.lock(true);
  const stamp = join(VENV, "installed.json");
  const installed: string[] = await works(PYTHON) ? await readJson(stamp) ?? [] : [];
  const missing = REQUIREMENTS[purpose].filter((requirement) => !installed.includes(requirement));
  if (missing.length > 0) {
    if (Deno.env.get("NEPA_OFFLINE") === "1") {
      throw new Error(
        `NEPA_OFFLINE=1, and .venv lacks ${missing.join(", ")}: run \`deno task setup\` online`,
      );
    }
    console.error(`installing ${missing.join(", ")} into .venv`);
    if (installed.length === 0) await createVenv();
    const { progress } = await import("../../lib/display/progress.ts");
    await using _ = progress({
      title: "Jupyter",
      total: missing.length,
      unit: "packages",
      text: "installing",
    });
    const options = ["--quiet", "--disable-pip-version-check", "--no-input"];
    await python(PYTHON, ["-m", "pip", "install", ...options, ...missing]);
    await writeJson(stamp, [...installed, ...missing]);
  }
  await writeKernelspec();
  return { python: PYTHON, variables: variables() };
}

/** Whether this is a Python that JupyterLab runs on. */
async function works(command: string): Promise<boolean> {
  try {
    const check = "import sys; sys.exit(sys.version_info < (3, 10))";
    return (await new Deno.Command(command, { args: ["-c", check], stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}

/** Runs Python; its whole output stands in the error when it fails. */
async function python(command: string, args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  if (success) return;
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  throw new Error(`python ${args.join(" ")} failed:\n${said.trim()}`);
}

async function createVenv(): Promise<void> {
  for await (const { name } of Deno.readDir(VENV)) { // what an interrupted or broken installation left
    if (name !== ".lock") await Deno.remove(join(VENV, name), { recursive: true });
  }
  let system: string | undefined;
  for (const name of ["python3", "python"]) if (await works(name)) system ??= name;
  if (!system) {
    throw new Error(
      "notebooks need Python 3.10 or later (python.org, or your system's packages): none found",
    );
  }
  try {
    await python(system, ["-m", "venv", VENV]);
  } catch {
    // Debian keeps ensurepip apart. The system's pip, if there is one, can install itself into the environment.
    try {
      await python(system, ["-m", "venv", "--without-pip", VENV]);
      await python(system, ["-m", "pip", "--python", PYTHON, "install", "--quiet", "pip"]);
    } catch (cause) {
      const remedy = "install it (Debian and Ubuntu: sudo apt install python3-venv) and run this again";
      throw new Error(`Python cannot make a virtual environment with pip: ${remedy}`, { cause });
    }
  }
}

/** Deno's kernel, where only this project's Jupyter looks. */
async function writeKernelspec(): Promise<void> {
  const folder = join(VENV, "share", "jupyter", "kernels", "deno");
  await Deno.mkdir(folder, { recursive: true });
  await writeJson(join(folder, "kernel.json"), {
    argv: [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"],
    display_name: "Deno",
    language: "typescript",
  });
}

function variables(): Record<string, string> {
  const own = (name: string) => join(VENV, "jupyter", name);
  return {
    JUPYTER_PATH: join(VENV, "share", "jupyter"),
    JUPYTER_CONFIG_DIR: own("config"),
    JUPYTER_DATA_DIR: own("data"),
    JUPYTER_RUNTIME_DIR: own("runtime"),
    IPYTHONDIR: own("ipython"),
    PYTHONNOUSERSITE: "1",
  };
}

async function readJson(path: string): Promise<string[] | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Written beside and renamed, so that nobody reads half a file. */
async function writeJson(path: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(`${path}.new`, JSON.stringify(value, null, 2) + "\n");
  await Deno.rename(`${path}.new`, path);
}

/** Fetches TensorFlow where it is not there yet, and says where it is, or why there is none. */
async function tensorflow(gpu: boolean): Promise<boolean> {
  await import("../../lib/start.ts"); // the download shows its progress
  const { installTensorFlow } = await import("../../lib/engine/install.ts");
  try {
    const { library, source } = await installTensorFlow({ gpu });
    console.error(`TensorFlow: ${library} (${source})`);
    return true;
  } catch (error) {
    console.error(`no TensorFlow: ${(error as Error).message}`);
    return false;
  }
}

/** JupyterLab's options, as this task takes them. */
const LAB = {
  "notebook-dir": NOTEBOOKS,
  port: "",
  ip: "",
  "no-browser": false,
  "allow-root": false,
  debug: false,
};

/** JupyterLab's command line. Paths are meant from where the task is called. */
async function labOptions(args: readonly string[]): Promise<string[]> {
  const { operands, "notebook-dir": folder, ...given } = readOptions(
    args,
    LAB,
    "[-- JUPYTERLAB'S OPTIONS …]",
  );
  const foreign = operands.find((operand) => !operand.startsWith("--"));
  if (foreign) {
    throw new OptionError(`expected only options, got "${foreign}"; a folder: --notebook-dir=${foreign}`);
  }
  const path = resolve(Deno.env.get("INIT_CWD") ?? ".", folder);
  if (!(await Deno.stat(path).catch(() => undefined))?.isDirectory) {
    throw new OptionError(`--notebook-dir: expected a folder that is there, got "${path}"`);
  }
  const own = [`--notebook-dir=${path}`, "--MultiKernelManager.default_kernel_name=deno"];
  return [...own, ...toArguments(given), ...operands];
}

async function lab({ python, variables }: JupyterEnvironment, options: readonly string[]): Promise<number> {
  Deno.addSignalListener("SIGINT", () => {}); // JupyterLab has it too, and asks whether to stop
  const child = new Deno.Command(python, { args: ["-m", "jupyterlab", ...options], env: variables }).spawn();
  return (await child.status).code;
}

async function main(): Promise<void> {
  const [first, ...rest] = Deno.args, opens = first === "lab";
  const options = opens ? await labOptions(rest) : [],
    gpu = !opens && readOptions(Deno.args, { gpu: false }).gpu;
  const environment = await jupyterEnvironment("lab"), found = await tensorflow(gpu);
  Deno.exit(opens ? await lab(environment, options) : found ? 0 : 1);
}

if (import.meta.main) await runTask(import.meta.url, main);
