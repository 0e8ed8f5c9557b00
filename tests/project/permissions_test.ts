import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { jsonc } from "../../bench/source.ts";
import { findTensorFlow } from "../../lib/engine/install.ts";
import { needs } from "../support/needs.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const DENIED = { network: "NotCapable", process: "NotCapable", write: "NotCapable", overwrite: "NotCapable" };

/** What `offline.ts` prints with these permissions. */
async function offline(engine: string, place: string, ...permissions: string[]) {
  await Deno.mkdir(place, { recursive: true });
  const out = await Deno.makeTempDir({ dir: place });
  try {
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--no-prompt",
        ...permissions,
        `${PROJECT}tests/support/offline.ts`,
        engine,
        out,
      ],
      cwd: PROJECT,
      env: { HF_TOKEN: "hf_secret", NO_COLOR: "1" },
    }).output();
    const said = new TextDecoder().decode(stderr);
    assert(stdout.length > 0, said);
    const { loaded, steps, bytes, attempts, secret } = JSON.parse(new TextDecoder().decode(stdout));
    assertEquals([loaded, steps, bytes > 10_000, secret], [27488, 2, true, null], said);
    return attempts;
  } finally {
    await Deno.remove(out, { recursive: true });
  }
}

const found = await findTensorFlow({ environment: { ...Deno.env.toObject(), NEPA_OFFLINE: "1" } });
const engines = ["wasm", ..."library" in found ? ["tensorflow"] : []];

for (const engine of engines) {
  Deno.test(`${engine}: the default permissions are enough to load, train and plot, and no more can be done`, async () => {
    const attempts = await offline(engine, `${PROJECT}out`, "-P");
    assertEquals(attempts, { ...DENIED, read: "done" });
  });
}

Deno.test("loading, training and plotting also do where only the project and Deno's cache can be read", async () => {
  const cache = JSON.parse(new TextDecoder().decode(
    (await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output()).stdout,
  )) as { denoDir: string };
  const place = await Deno.makeTempDir(), env = "HOME,XDG_CACHE_HOME,NEPA_*,UNDICI_*";
  const attempts = await offline(
    "wasm",
    place,
    "--deny-net",
    `--allow-read=${PROJECT},${cache.denoDir},${place}`,
    `--allow-write=${place}`,
    `--allow-env=${env}`,
    "--allow-sys=hostname,cpus,systemMemoryInfo,networkInterfaces",
    "--allow-ffi",
  );
  assertEquals(attempts, { ...DENIED, read: "NotCapable" });
  await Deno.remove(place, { recursive: true });
});

async function configuration(file: string) {
  return jsonc<{
    tasks: Record<string, { command: string }>;
    permissions: Record<string, Record<string, unknown>>;
  }>(await Deno.readTextFile(`${PROJECT}${file}`));
}

Deno.test("the tasks take permission sets, but for those that start processes with permissions of their own", async () => {
  const { tasks, permissions: own } = await configuration("deno.json");
  const permissions = { ...own, ...(await configuration("kernels/deno.json")).permissions };
  const open = Object.keys(tasks).filter((name) => /--allow-all|-A\b/.test(tasks[name]!.command));
  assertEquals(open.sort(), ["bench", "check", "conformance", "ok", "test"]);
  for (const [name, { command }] of Object.entries(tasks)) {
    const [, set] = /-P=(\w+)/.exec(command) ?? [];
    if (command.startsWith("deno run") && !open.includes(name)) assert(permissions[set!], `${name}: ${set}`);
  }
  for (const set of Object.values(permissions)) assert(!set.net && set.run !== true && set.write !== true);
});

Deno.test("with the documented flags nothing is asked for in a terminal", needs("script"), async () => {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(
    file,
    `import { useEngine } from "nepa";\nconsole.log(String(await useEngine()));`,
  );
  const flags = "--allow-read --allow-write=runs --allow-env --allow-sys --allow-ffi";
  const command = `${Deno.execPath()} run --no-check ${flags} --config ${PROJECT}deno.json ${file}`;
  const { stdout } = await new Deno.Command("script", {
    args: ["-qec", command, "/dev/null"],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const said = new TextDecoder().decode(stdout);
  await Deno.remove(file);
  assert(!/requests|Allow\?|Denied/.test(said), said);
  assert(/tensorflow|wasm/i.test(said), said);
});
