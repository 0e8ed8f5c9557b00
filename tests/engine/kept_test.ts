import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { keepCompiled } from "../../lib/engine/kept.ts";
import { isAsSealed } from "../../lib/engine/sums.ts";
import { inProcess, tensorflowLibrary } from "../support/in_process.ts";
import { needs } from "../support/needs.ts";

const ignore = Deno.build.os === "darwin", WINDOWS = Deno.build.os === "windows";

/** Twenty updates of a small network, compiled; prints the bits of its weights. */
const TRAINING = `
  const engine = await useEngine("tensorflow");
  const wave = (shape: number[], by: number) =>
    tf.tidy(() => tf.sin(tf.mul(tf.range(0, shape.reduce((a, b) => a * b)), by)).reshape(shape));
  const weights = [1, 2, 3].map((i) => tf.tidy(() => tf.variable(wave([32, 32], i))));
  const x = wave([16, 32], 0.7);
  const update = engine.compile((x: tf.Tensor) => {
    const loss = () => tf.mean(tf.square(weights.reduce((h, w) => tf.softmax(tf.matMul(h, w)), x))) as tf.Scalar;
    const { grads } = tf.variableGrads(loss);
    for (const w of weights) w.assign(tf.sub(w, tf.mul(grads[w.name]!, 10)));
    return x;
  }, { name: "update" });
  for (let i = 0; i < 20; i++) (await update(x)).dispose();
  const bits = weights.flatMap((w) => [...new Uint32Array(w.dataSync().buffer)]);
  console.log(bits.reduce((hash, word) => (Math.imul(hash, 31) + word) | 0, 0), update.compileSeconds > 0);`;

async function train(cache: string, expected?: string): Promise<{ stdout: string; stderr: string }> {
  const { stdout, stderr } = await inProcess(TRAINING, {
    NEPA_TENSORFLOW: await tensorflowLibrary(),
    XDG_CACHE_HOME: cache,
  });
  if (expected !== undefined) assertEquals(stdout, expected);
  else assertEquals(stderr, "");
  return { stdout, stderr };
}

/** Path, size and time of all files in a folder. */
function filesIn(folder: string): { path: string; size: number; time: number }[] {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`, { size, mtime } = Deno.statSync(path);
    return isDirectory ? filesIn(path) : [{ path, size, time: mtime!.getTime() }];
  });
}

Deno.test(
  "the next process takes what the first has compiled, and computes the same bits",
  { ignore },
  async () => {
    const cache = await Deno.makeTempDir({ suffix: WINDOWS ? " of Joe's" : " of Zoë's" }),
      first = (await train(cache)).stdout,
      files = filesIn(cache);
    assert(/^-?\d+ true\n$/.test(first), first);
    assert(
      files.length > 0 &&
        files.every(({ path }) => /\/nepa\/compiled\/[0-9a-f]{16}\/[^/]+\.pb(\.sum)?$/.test(path)),
    );
    assertEquals(await train(cache), { stdout: first, stderr: "" });
    assertEquals(filesIn(cache), files); // what is compiled anew replaces its file

    const paths = files.map(({ path }) => path).filter((path) => path.endsWith(".pb"));
    const whole = await Deno.readFile(paths[0]!), middle = whole.length >> 1;
    await Deno.writeFile(paths[0]!, whole.with(middle, whole[middle]! ^ 1)); // one bit
    await Deno.truncate(paths[1]!, 100);
    await Deno.truncate(paths[2]!);
    await Deno.remove(`${paths[3]!}.sum`); // as where a process was killed before it sealed
    const says = (await train(cache, first)).stderr.trim().split("\n").sort();
    assertEquals(
      says,
      paths.slice(0, 3).map((path) => `${path}: compiled code that was damaged; removed, and compiled anew`)
        .sort(),
    );
    const healed = filesIn(cache);
    assertEquals(healed.map(({ path }) => path), files.map(({ path }) => path)); // a few bytes longer or shorter, at times
    assertEquals(paths.map((path) => isAsSealed(path)), paths.map(() => true));
    const anew = healed.filter(({ time }, i) => time !== files[i]!.time).map(({ path }) => path);
    assertEquals(anew.sort(), paths.slice(0, 4).flatMap((path) => [path, `${path}.sum`]).sort());
    await Deno.remove(cache, { recursive: true });
  },
);

Deno.test("without a folder that can be written, nothing is kept and all works", { ignore }, async () => {
  const cache = await Deno.makeTempFile();
  assert(/^-?\d+ true\n$/.test((await train(cache)).stdout));
  await Deno.remove(cache);
});

Deno.test("another processor, library or setting has a folder of its own", { ignore }, async () => {
  const cache = await Deno.makeTempDir(), library = `${cache}/library`, other = `${cache}/other`;
  await Deno.writeTextFile(library, "a library");
  await Deno.writeTextFile(other, "another library");
  const environment = { XDG_CACHE_HOME: cache.replaceAll("\\", "/") }, before = Deno.env.get("TF_XLA_FLAGS");
  try {
    const folder = await keepCompiled(library, environment);
    assertStringIncludes(Deno.env.get("TF_XLA_FLAGS")!, `--tf_xla_persistent_cache_directory="${folder}" `);
    assertEquals(await keepCompiled(library, environment), folder);
    assertNotEquals(await keepCompiled(other, environment), folder);
    assertNotEquals(
      await keepCompiled(library, { ...environment, XLA_FLAGS: "--xla_cpu_enable_fast_math" }),
      folder,
    );
    assertNotEquals(await keepCompiled(library, environment, "flags : none"), folder);
    const own = { ...environment, TF_XLA_FLAGS: "--tf_xla_persistent_cache_directory=" };
    assertEquals(await keepCompiled(library, own), undefined);
    assertEquals(await keepCompiled(library, {}), undefined);
  } finally {
    if (before === undefined) Deno.env.delete("TF_XLA_FLAGS");
    else Deno.env.set("TF_XLA_FLAGS", before);
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test(
  "on Windows nothing is kept in a folder that TensorFlow would not find",
  needs("windows"),
  async () => {
    const cache = await Deno.makeTempDir({ suffix: " of Zoë" }), library = `${cache}/library`;
    await Deno.writeTextFile(library, "a library");
    assertEquals(await keepCompiled(library, { XDG_CACHE_HOME: cache }), undefined);
    await Deno.remove(cache, { recursive: true });
  },
);

Deno.test("the oldest go where the folders grow beyond 200 MB", { ignore }, async () => {
  const cache = await Deno.makeTempDir(), before = Deno.env.get("TF_XLA_FLAGS");
  const folder = `${cache}/nepa/compiled/elsewhere`, field = 60_000_000;
  await Deno.mkdir(folder, { recursive: true });
  const head = [0x1a]; // field 3, then the length, seven bits a byte
  for (let rest = field; rest > 0; rest = Math.floor(rest / 128)) {
    head.push(rest % 128 | (rest >= 128 ? 128 : 0));
  }
  for (const age of [4, 3, 2, 1, 0]) {
    const path = `${folder}/${age}.pb`, time = Date.now() / 1000 - age * 60;
    await Deno.writeFile(path, Uint8Array.from(head));
    await Deno.truncate(path, head.length + field); // no disk is used for the rest
    await Deno.utime(path, time, time);
  }
  try {
    assert(await keepCompiled(`${folder}/0.pb`, { XDG_CACHE_HOME: cache }));
    assertEquals(filesIn(folder).map(({ path }) => path.at(-4)).sort(), ["0", "1", "2"]);
  } finally {
    if (before === undefined) Deno.env.delete("TF_XLA_FLAGS");
    else Deno.env.set("TF_XLA_FLAGS", before);
    await Deno.remove(cache, { recursive: true });
  }
});
