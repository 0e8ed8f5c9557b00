import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { useEngine } from "../../lib/engine/mod.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import { modelFolder } from "../../lib/files/hub.ts";
import { HubError } from "../../lib/files/hub_files.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { readSafetensors, SafetensorsError, writeSafetensors } from "../../lib/files/safetensors.ts";
import { COMMIT, gitHash, HubServer, sha256 } from "../support/hub_server.ts";
import {
  below,
  config,
  deadAddress,
  files,
  filesOf,
  fixture,
  MODEL,
  weights,
  withHub,
} from "../support/hub_setup.ts";
import { has } from "../support/needs.ts";

await useEngine("cpu");

withHub(
  "a model is fetched into the layout of Python's cache, only what is needed of it",
  {},
  async (setup) => {
    const { hub, home, lines, load } = setup, storage = `${home}/hub/models--lab--model`;
    const folder = await load();
    assertEquals(folder, join(storage, "snapshots", COMMIT));
    assertEquals(
      below(`${home}/hub`),
      [
        `models--lab--model/blobs/${gitHash(config)}`,
        `models--lab--model/blobs/${sha256(weights)}`,
        "models--lab--model/refs/main",
        `models--lab--model/snapshots/${COMMIT}/config.json`,
        `models--lab--model/snapshots/${COMMIT}/model.safetensors`,
      ].sort(),
    );
    assertEquals(await Deno.readTextFile(`${storage}/refs/main`), COMMIT);
    if (has("links", "what a link says")) {
      assertEquals(await Deno.readLink(`${folder}/config.json`), `../../blobs/${gitHash(config)}`);
    }
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), weights);
    assert(
      lines[0]!.endsWith(`0.1 MB, kept in ${folder}, fetched from ${hub.endpoint} where missing`),
      lines[0],
    );
    hub.take();
    assertEquals(await load(), folder);
    assertEquals(hub.take().filter(({ path }) => path.includes("resolve")), []);
  },
);

withHub(
  "where symbolic links cannot be made, files are linked hard, and taken from there again",
  {},
  async (setup) => {
    const { hub, home } = setup, at = fileURLToPath(new URL("../../", import.meta.url));
    const code = `import { modelFolder } from ${
      JSON.stringify(new URL("../../lib/files/hub.ts", import.meta.url))
    };
    const environment = ${JSON.stringify({ HF_HOME: home, HF_ENDPOINT: hub.endpoint })};
    console.log(await modelFolder("${MODEL}", { environment }));`;
    await Deno.writeTextFile(`${home}/load.ts`, code);
    const rights = ["--allow-read", `--allow-write=${home}`, "--allow-net", "--allow-env", "--allow-sys"]; // too few for these
    const args = ["run", "--no-check", "--quiet", "--config", `${at}deno.json`, ...rights, `${home}/load.ts`];
    const load = async () => {
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      return new TextDecoder().decode(stdout.length > 0 ? stdout : stderr).trim();
    };
    const folder = await load(), path = `${folder}/model.safetensors`;
    const blob = `${home}/hub/models--lab--model/blobs/${sha256(weights)}`;
    assert((await Deno.lstat(path)).isFile, folder);
    assertEquals((await Deno.stat(path)).ino, (await Deno.stat(blob)).ino);
    await Deno.remove(blob); // as Python does there, which moves it
    hub.take();
    assertEquals(await load(), folder);
    assertEquals(hub.take().filter(({ path }) => path.includes("resolve")), []);
  },
);

withHub("Nepa.load and NepaClassifier.load take a name on the hub", {}, async ({ hub, home }) => {
  const before = Deno.env.toObject();
  Deno.env.set("HF_ENDPOINT", hub.endpoint);
  Deno.env.set("HF_HUB_CACHE", `${home}/elsewhere`);
  try {
    const [model, same] = [
      await Nepa.load(MODEL, { revision: "v1" }),
      await Nepa.load(fixture("pretrain-a")),
    ];
    for (const [name, variable] of same.parameters) {
      assertEquals(model.parameters.get(name)!.dataSync(), variable.dataSync(), name);
    }
    assertEquals(await Deno.readTextFile(`${home}/elsewhere/models--lab--model/refs/v1`), COMMIT);
    for (const owner of [model, same]) owner.dispose();
    await using other = new HubServer(await filesOf("classify-pool"), { commit: "c".repeat(40) });
    Deno.env.set("HF_ENDPOINT", other.endpoint);
    const classifier = await NepaClassifier.load(MODEL);
    assertEquals(classifier.parameters.has("classifier.weight"), true);
    classifier.dispose();
  } finally {
    for (const name of ["HF_ENDPOINT", "HF_HUB_CACHE"]) {
      if (before[name] === undefined) Deno.env.delete(name);
      else Deno.env.set(name, before[name]);
    }
  }
});

withHub("a revision is a branch, a tag, a pull request or a commit", {}, async ({ home, load }) => {
  const refs = `${home}/hub/models--lab--model/refs`;
  for (const revision of ["v1", "refs/pr/1", COMMIT]) await load({ revision });
  assertEquals(below(refs), ["refs/pr/1", "v1"]);
  await assertRejects(() => load({ revision: "v2" }), HubError, 'there is no revision "v2"');
  for (const revision of ["../v1", "/etc", "a/../../b", "", "a/"]) {
    await assertRejects(() => load({ revision }), RangeError, "expected a branch, a tag or a commit");
  }
});

withHub("a folder of the model's name wins, and it is said", {}, async ({ hub, home, lines }) => {
  const here = Deno.cwd();
  Deno.chdir(home);
  try {
    await Deno.mkdir(MODEL, { recursive: true });
    assertEquals(await modelFolder(MODEL), MODEL);
    assertEquals(lines, [`${MODEL}: loading the folder here, not a model on the Hugging Face hub`]);
    await assertRejects(() => modelFolder(MODEL, { revision: "v1" }), TypeError, "a folder here");
  } finally {
    Deno.chdir(here);
  }
  assertEquals(await modelFolder("/no/such/folder"), "/no/such/folder");
  await assertRejects(
    () => modelFolder("./model", { revision: "v1" }),
    TypeError,
    "expected a name on the hub",
  );
  assertEquals(hub.take(), []);
});

withHub("without the network the last model fetched is taken, else what helps is said", {}, async (setup) => {
  const { hub, home, lines, load } = setup;
  for (const name of ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NEPA_OFFLINE"]) {
    await assertRejects(
      () => load({ environment: { [name]: "1" } }),
      HubError,
      `since ${name} is set: unset`,
    );
  }
  const away = { HF_ENDPOINT: deadAddress() };
  await assertRejects(
    () => load({ environment: away }),
    HubError,
    `expected an answer from ${away.HF_ENDPOINT}`,
  );
  assertEquals(hub.take(), []);
  const folder = await load();
  hub.take();
  for (const environment of [{ HF_HUB_OFFLINE: "true" }, away]) {
    assertEquals(await load({ environment }), folder);
  }
  assert(lines.at(-2)!.includes(`HF_HUB_OFFLINE is set; taking ${folder}`), lines.at(-2));
  assert(lines.at(-2)!.endsWith("which has no preprocessor_config.json"), lines.at(-2));
  const offline = { environment: { HF_HUB_OFFLINE: "1" } };
  assertEquals(await load({ ...offline, revision: COMMIT }), folder);
  await assertRejects(() => load({ ...offline, revision: "v1" }), HubError, "lab/model, v1: expected it in");
  await Deno.remove(`${home}/hub/models--lab--model/blobs/${sha256(weights)}`);
  if (!has("links")) await Deno.remove(`${folder}/model.safetensors`);
  await assertRejects(() => load(offline), HubError, "expected it in");
  assertEquals(hub.take(), []);
});

const shards = new Map<string, Uint8Array<ArrayBuffer>>([["config.json", config]]),
  index: Record<string, string> = {};
const { tensors } = readSafetensors(weights), names = [...tensors.keys()];
for (const shard of [1, 2]) {
  const file = `model-0000${shard}-of-00002.safetensors`, mine = names.filter((_, i) => i % 2 === shard - 1);
  for (const name of mine) index[name] = file;
  shards.set(file, writeSafetensors(new Map(mine.map((name) => [name, tensors.get(name)!]))));
}
const indexOf = (weight_map: unknown) => new TextEncoder().encode(JSON.stringify({ weight_map }));
const sharded = (weight_map: unknown) =>
  new Map([...shards, ["model.safetensors.index.json", indexOf(weight_map)]]);

withHub("a model in several files is fetched with all of them", {}, async ({ load }) => {
  const folder = await load(), model = await Nepa.load(folder);
  assertEquals(below(folder).length, 4);
  assertEquals(await load({ environment: { HF_HUB_OFFLINE: "1" } }), folder);
  model.dispose();
  await Deno.remove(`${folder}/model-00002-of-00002.safetensors`);
  await assertRejects(() => load({ environment: { HF_HUB_OFFLINE: "1" } }), HubError, "expected it in");
}, sharded(index));

for (
  const path of ["../../../../../outside.safetensors", "/outside.safetensors", "a/../../outside.safetensors"]
) {
  withHub(`an index that names ${path} is refused`, {}, async ({ home, load }) => {
    await assertRejects(load, SafetensorsError, "expected a file beside the index");
    assertEquals(below(home).filter((path) => path.includes("outside")), []);
  }, new Map([...sharded({ ...index, [names[0]!]: path }), [path, weights]]));
}

const averaged = "pytorch_model_ema.bin", withAverage = new Map([...files, [averaged, new Uint8Array(9)]]);
withHub(
  "averaged weights are fetched where they are asked for, and taken offline then",
  {},
  async ({ load }) => {
    const folder = await load({ ema: true });
    assertEquals(below(folder), ["config.json", averaged]);
    const environment = { HF_HUB_OFFLINE: "1" };
    assertEquals(await load({ ema: true, environment }), folder);
    await assertRejects(() => load({ environment }), HubError, "HF_HUB_OFFLINE");
  },
  withAverage,
);

withHub("a model without averaged weights is refused where they are asked for", {}, async ({ load }) => {
  await assertRejects(() => load({ ema: true }), HubError, `expected ${averaged} at main`);
});

withHub("a model without safetensors is refused, with what there is", {}, async ({ load }) => {
  await assertRejects(
    load,
    HubError,
    'expected model.safetensors at main, got "config.json", "pytorch_model.bin"',
  );
}, new Map([...files].filter(([name]) => ["config.json", "pytorch_model.bin"].includes(name))));

withHub("two that load at once fetch each file once", {}, async ({ hub, load }) => {
  assertEquals(new Set(await Promise.all([load(), load(), load()])).size, 1);
  assertEquals(hub.take().filter(({ host }) => host === "storage").length, 1);
});
