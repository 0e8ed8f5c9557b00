/** What stands in a run's folder is looked at before it is believed, and nothing is overwritten before. @module */
import { cp } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  type CheckpointOptions,
  horizontalFlip,
  Mlp,
  type Nepa,
  type NepaClassifier,
  nepaLoss,
  type Objective,
} from "nepa";
import {
  type PretrainOptions,
  readLog,
  type Run,
  RunFolderError,
  tf,
  useEngine,
  writeSafetensors,
} from "nepa";
import { said } from "../support/said.ts";
import { withFolder } from "../support/folder.ts";
import { checkpoints } from "../support/kill.ts";
import { noise, tinyRun, tinyTuning } from "../support/tiny.ts";
import { has } from "../support/needs.ts";

await useEngine("cpu");

type Json = Record<string, unknown>;

function free(run: Run<Nepa | NepaClassifier>): void {
  run.dispose();
  run.model.dispose();
  run.ema?.dispose();
}

/** Trains up to a step of six, with a checkpoint at each second. */
async function train(
  checkpoint: CheckpointOptions,
  until = 6,
  options: PretrainOptions = {},
): Promise<number[]> {
  const run = tinyRun({
    steps: 6,
    emaDecay: null,
    ...options,
    checkpoint: { every: 2, keep: 9, ...checkpoint },
  });
  try {
    for await (const { step } of run) if (step === until) break;
    return run.history.map(({ loss }) => loss);
  } finally {
    free(run);
  }
}

/** Every file of a folder with its contents; folders, pipes and links by what they are. */
async function contents(folder: string): Promise<Json> {
  const found: Json = {};
  for await (const { name, isDirectory, isFile, isSymlink } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) found[name] = await contents(path);
    else found[name] = isFile && name !== "lock" ? await Deno.readFile(path) : { isFile, isSymlink };
  }
  return found;
}

const json = async (path: string): Promise<Json> => JSON.parse(await Deno.readTextFile(path));

/** Changes what a checkpoint says of itself, with the checksum that belongs to it. */
async function restate(step: string, change: (state: Json) => Json): Promise<void> {
  const { crc32: _, ...state } = await json(`${step}/state.json`), all = change(state);
  await Deno.writeTextFile(
    `${step}/state.json`,
    JSON.stringify({ ...all, crc32: crc32(JSON.stringify(all)) }),
  );
}

async function refused(work: () => Promise<unknown>, kind: string, ...says: string[]): Promise<void> {
  const error = await assertRejects(work, RunFolderError);
  assertEquals(error.kind, kind, error.message);
  for (const text of says) assertStringIncludes(error.message, text);
  assert(error.message.length < 1500, error.message);
}

Deno.test("run.json and state.json hold what was used, and of data sets their name, length and contents", async () => {
  await withFolder(async (folder) => {
    const validation = noise.subset([1, 2, 3, 4]), test = noise.subset([5, 6]);
    const run = tinyTuning({ epochs: 0.5, validation, test, warmupRatio: 0.5, checkpoint: { folder } });
    await run.finish();
    for (const file of ["run.json", "step-00000006/state.json"]) {
      const text = await Deno.readTextFile(`${folder}/${file}`),
        all = JSON.parse(text),
        { options, data, validation } = all.about ?? all;
      assert(text.length < 10_000, `${file}: ${text.length} letters`);
      assertEquals([options.steps, options.learningRate, options.warmupSteps], [6, 0.03, 3]);
      assertEquals([options.epochs, options.validation, options.checkpoint], [
        undefined,
        undefined,
        undefined,
      ]);
      assertEquals([data.name, data.length, validation.name, validation.length], ["noise", 96, "noise", 4]);
      for (const { contents } of [data, validation]) assert(/^[0-9a-f]{64}$/.test(contents));
    }
    free(run);
  });
});

Deno.test("what cannot change the numbers may differ where a run goes on", async () => {
  await withFolder(async (place) => {
    const whole = await train({ folder: `${place}/whole` }), controller = new AbortController();
    const ways: Record<
      string,
      [CheckpointOptions["resume"], CheckpointOptions["resume"], Json?, PretrainOptions?]
    > = {
      "begun without resume": [undefined, true],
      "false, then auto": [false, "auto"],
      "auto, then true": ["auto", true],
      "other checkpoints": [undefined, true, { every: 5, keep: 1, onNonFinite: "rollback", best: "loss" }],
      "a signal": [undefined, true, {}, { signal: controller.signal }],
      "the meter at other steps": [undefined, true, {}, { every: { collapse: 2 } }],
      "defaults written out": [undefined, true, {}, {
        ...{
          recipe: "default",
          learningRate: 3e-3,
          weightDecay: 0.05,
          betas: [0.9, 0.95],
          warmupRatio: 0.1,
          clipNorm: 1,
        },
        ...{ augment: horizontalFlip(0.5), seed: 0, compile: true, accumulate: 1, precision: "float32" },
        ...{ causal: true, shift: true, stopGradient: true, standardizeTargets: false, groups: () => ({}) },
      }],
    };
    for (const [what, [first, then, keeping = {}, options]] of Object.entries(ways)) {
      const [from, folder] = [`${place}/${what}`, `${place}/${what}, moved`];
      await train({ folder: from, ...first !== undefined && { resume: first } }, 3);
      await Deno.rename(from, folder);
      assertEquals(await train({ ...keeping, folder, resume: then! }, 6, options), whole, what);
    }
  });
});

Deno.test("a fine-tuning begun without resume goes on by resume: true, elsewhere and with defaults written out", async () => {
  await withFolder(async (place) => {
    const tune = async (folder: string, until: number, more = {}, keeping = {}) => {
      const options = { steps: 6, validation: noise.subset([1, 2, 3, 4]), ...more };
      const run = tinyTuning({ ...options, checkpoint: { folder, ...keeping } });
      for await (const { step } of run) if (step === until) break;
      const losses = run.history.map(({ loss }) => loss);
      free(run);
      return losses;
    };
    const whole = await tune(`${place}/whole`, 6);
    await tune(`${place}/one`, 3);
    await refused(() => tune(`${place}/one`, 6), "occupied", "resume: true");
    await Deno.rename(`${place}/one`, `${place}/two`);
    const defaults = { labelSmoothing: 0.1, layerDecay: 0.75, mixup: 0, prepare: null, recipe: "default" };
    const losses = await tune(`${place}/two`, 6, defaults, { resume: true, every: 4, keep: 1 });
    assertEquals(losses, whole);
  });
});

Deno.test("a folder as it was written before, without checksum of state.json and with more words of the data, goes on", async () => {
  await withFolder(async (place) => {
    const [folder, whole] = [`${place}/run`, await train({ folder: `${place}/whole` })];
    await train({ folder }, 3);
    for (const name of checkpoints(folder)) {
      const path = `${folder}/${name}/state.json`, { crc32: _, about, ...state } = await json(path);
      const { validation, data, ...rest } = about as { validation: { contents: string }; data: Json };
      const before = { ...rest, data: { ...data, fingerprint: "abc" }, validation: validation.contents };
      await Deno.writeTextFile(path, JSON.stringify({ ...state, about: before }));
    }
    assertEquals(await train({ folder, resume: true }), whole);
  });
});

Deno.test("checkpoints under each other's names, or whose files or state were changed, are not taken", async () => {
  await withFolder(async (place) => {
    const whole = await train({ folder: `${place}/whole` });
    const swap = async (one: string, other: string) => {
      await Deno.rename(one, `${one}.x`);
      await Deno.rename(other, one);
      await Deno.rename(`${one}.x`, other);
    };
    const damages: Record<
      string,
      [damage: (folder: string) => Promise<unknown>, says: string, left: number]
    > = {
      "folders swapped": [
        (folder) => swap(`${folder}/step-00000002`, `${folder}/step-00000004`),
        "state.json is of step 2: was the folder renamed?",
        0,
      ],
      "weights swapped": [
        (folder) =>
          swap(`${folder}/step-00000002/model.safetensors`, `${folder}/step-00000004/model.safetensors`),
        "model.safetensors is damaged",
        0,
      ],
      "another folder's state": [
        (folder) => Deno.copyFile(`${folder}/step-00000002/state.json`, `${folder}/step-00000004/state.json`),
        "state.json is of step 2",
        2,
      ],
      "a digit of the state": [
        async (folder) => {
          const path = `${folder}/step-00000004/state.json`, text = await Deno.readTextFile(path);
          await Deno.writeTextFile(path, text.replace('"skipped": []', '"skipped": [1]'));
        },
        "state.json is damaged",
        2,
      ],
      "a file without checksum": [
        (folder) => restate(`${folder}/step-00000004`, (state) => ({ ...state, files: {} })),
        "state.json does not know model.safetensors",
        2,
      ],
      "a file that is gone": [
        (folder) => Deno.remove(`${folder}/step-00000004/optimizer.safetensors`),
        "optimizer.safetensors is missing",
        2,
      ],
      "a folder in its place": [
        async (folder) => {
          await Deno.remove(`${folder}/step-00000004/optimizer.safetensors`);
          await Deno.mkdir(`${folder}/step-00000004/optimizer.safetensors`);
        },
        "optimizer.safetensors: expected a file, got a folder",
        2,
      ],
      ...has("pipes", "a pipe in the place of a file") && {
        "a pipe in its place": [
          async (folder) => {
            await Deno.remove(`${folder}/step-00000004/state.json`);
            await new Deno.Command("mkfifo", { args: [`${folder}/step-00000004/state.json`] }).output();
          },
          "state.json: expected a file, got a pipe",
          2,
        ],
        "a file that never ends": [
          async (folder) => {
            await Deno.remove(`${folder}/step-00000004/model.safetensors`);
            await Deno.symlink("/dev/zero", `${folder}/step-00000004/model.safetensors`);
          },
          "model.safetensors: expected a file, got a pipe or a device",
          2,
        ],
      },
      "a state of 100 MB": [
        (folder) => Deno.truncate(`${folder}/step-00000004/state.json`, 1e8),
        "state.json: expected at most 67108864 bytes, got 100000000",
        2,
      ],
      ...Object.fromEntries(["null", "[]", '"{}"', "{", "3", ""].map((text) => [
        `a state of ${text || "nothing"}`,
        [(folder: string) => Deno.writeTextFile(`${folder}/step-00000004/state.json`, text), "state.json", 2],
      ])),
    };
    await train({ folder: `${place}/one` }, 4);
    for (const [what, [damage, says, left]] of Object.entries(damages)) {
      const folder = `${place}/${what}`;
      await cp(`${place}/one`, folder, { recursive: true });
      await damage(folder);
      let losses: number[] = [];
      const words = await said(async () => losses = await train({ folder, resume: true }, left + 1));
      assertStringIncludes(words, says, what);
      assertStringIncludes(words, `going on after step ${left}`, what);
      assertEquals(losses, whole.slice(0, left + 1), what);
    }
  });
});

Deno.test("a checkpoint of another form is refused in plain words, and nothing is overwritten", async () => {
  await withFolder(async (place) => {
    await train({ folder: `${place}/one` }, 4);
    const path = (folder: string, file: string) => `${folder}/step-00000004/${file}`;
    const tensors = (names: string[], size = 3) =>
      writeSafetensors(new Map(names.map((name) => [name, { shape: [size], data: new Float32Array(size) }])));
    /** Puts other bytes in a file's place, with the checksum that belongs to them. */
    const put = (file: string, bytes: Uint8Array) => async (folder: string) => {
      await Deno.writeFile(path(folder, file), bytes);
      const sum = { size: bytes.length, crc32: crc32(bytes) };
      await restate(
        `${folder}/step-00000004`,
        (state) => ({ ...state, files: { ...state.files as Json, [file]: sum } }),
      );
    };
    const say = (change: Json) => (folder: string) =>
      restate(`${folder}/step-00000004`, (state) => ({ ...state, ...change }));
    const norm = "vit_nepa.layernorm.bias", other = new TextEncoder().encode("no tensors");
    const forms: [what: string, change: (folder: string) => Promise<unknown>, kind: string, says: string][] =
      [
        [
          "no moments",
          put("optimizer.safetensors", tensors([norm])),
          "torn",
          "optimizer.safetensors: expected exp_avg.",
        ],
        ["no tensors", put("optimizer.safetensors", other), "torn", "optimizer.safetensors: safetensors: "],
        [
          "no weights",
          put("model.safetensors", tensors(["x"])),
          "torn",
          "model.safetensors: expected vit_nepa.",
        ],
        ["no list", say({ skipped: 7 }), "torn", "state.json"],
        ["no numbers", say({ skipped: ["1"] }), "torn", "state.json"],
        ["no options", say({ about: {} }), "torn", "state.json"],
        ["nothing about", say({ about: null, best: 3 }), "torn", "state.json"],
      ];
    for (const [what, change, kind, says] of forms) {
      const folder = `${place}/${what}`;
      await cp(`${place}/one`, folder, { recursive: true });
      await change(folder);
      const before = await contents(folder),
        run = tinyRun({ steps: 6, emaDecay: null, checkpoint: { folder, resume: true } });
      const weights = [...run.model.parameters.values()].map((x) => x.dataSync().slice());
      await refused(() => run.finish(), kind, folder, says);
      assertEquals([...run.model.parameters.values()].map((x) => x.dataSync()), weights, what);
      assertEquals(await contents(folder), before, what);
      free(run);
    }
    const folder = `${place}/late`;
    await train({ folder }, 4);
    await refused(
      () => train({ folder, resume: true }, 3, { steps: 3 }),
      "different",
      "saved after step 4, of 3 now",
    );
  });
});

Deno.test("what stands in a run's folder in the place of a file is refused, and a link's target stays", async () => {
  await withFolder(async (place) => {
    await train({ folder: `${place}/one` }, 2);
    const target = `${place}/target`;
    await Deno.writeTextFile(target, "mine");
    for (const file of ["lock", "holder", "run.json", "metrics.csv", "timings.csv"]) {
      for (
        const what of has("pipes", "a pipe in the place of a file") ? ["a folder", "a pipe"] : ["a folder"]
      ) {
        const folder = `${place}/${file}, ${what}`;
        await cp(`${place}/one`, folder, { recursive: true });
        await Deno.remove(`${folder}/${file}`);
        if (what === "a folder") await Deno.mkdir(`${folder}/${file}`);
        else await new Deno.Command("mkfifo", { args: [`${folder}/${file}`] }).output();
        const before = await contents(folder);
        await refused(
          () => train({ folder, resume: true }),
          "unwritable",
          `${file}: expected a file, got ${what}`,
        );
        assertEquals(await contents(folder), before);
      }
    }
    for (const text of ["null", "{", '{"sessions": 3}', '{"mine": 1}', "[]"]) {
      await Deno.writeTextFile(`${place}/one/run.json`, text);
      await refused(
        () => train({ folder: `${place}/one`, resume: true }),
        "unwritable",
        "run.json: expected",
      );
      assertEquals(await Deno.readTextFile(`${place}/one/run.json`), text);
      await Deno.mkdir(`${place}/new`);
      await Deno.writeTextFile(`${place}/new/run.json`, text);
      await refused(() => train({ folder: `${place}/new` }), "unwritable", "run.json: expected");
      assertEquals(await Deno.readTextFile(`${place}/new/run.json`), text);
      await Deno.remove(`${place}/new`, { recursive: true });
    }
    const links = has("links", "a link in the place of a file");
    for (
      const file of !links ? [] : [
        ...["lock", "holder.part"],
        "run.json.part",
        "metrics.csv.part",
        "timings.csv.part",
        "step-00000000.part",
        "metrics.csv.old",
      ]
    ) {
      const folder = `${place}/link ${file}`;
      await Deno.mkdir(folder);
      await Deno.writeTextFile(`${folder}/metrics.csv`, "my own\n1\n");
      await Deno.symlink(target, `${folder}/${file}`);
      if (file === "lock") {
        await refused(() => train({ folder }), "unwritable", "lock: expected a file, got a link");
      } else {
        await said(() => train({ folder }, 2));
        assertEquals(await Deno.readTextFile(`${folder}/metrics.csv.old`), "my own\n1\n");
      }
      assertEquals(await Deno.readTextFile(target), "mine", file);
    }
  });
});

Deno.test("one damaged line of a log, its first one too, takes no other with it", async () => {
  await withFolder(async (place) => {
    await train({ folder: `${place}/one` }, 5);
    const text = await Deno.readTextFile(`${place}/one/metrics.csv`),
      losses = await train({ folder: `${place}/whole` });
    const damages: [what: string, damage: (text: string) => string, left: number[]][] = [
      ["a step too large", (text) => text.replace("\n3,", "\n33,"), [1, 2, 4, 5, 6]],
      ["a step too small", (text) => text.replace("\n3,", "\n1,"), [1, 2, 4, 5, 6]],
      ["a step that is none", (text) => text.replace("\n3,", "\n3.5,"), [1, 2, 4, 5, 6]],
      ["no loss", (text) => text.replace(/\n3,(\d+),[^,]*/, "\n3,$1,"), [1, 2, 4, 5, 6]],
      ["the first column's name", (text) => text.replace("step,", "st\0p,"), [1, 2, 3, 4, 5, 6]],
      ["a column's name", (text) => text.replace(",loss,", ",l\u202ess,"), [1, 2, 3, 4, 5, 6]],
      ["the first line", (text) => text.replace(/^.*/, "\x1b[31m"), [1, 2, 3, 4, 5, 6]],
      ["bytes", (text) => text.replace(/\n3,.*/, "\n\0\0\0\0"), [1, 2, 4, 5, 6]],
    ];
    for (const [what, damage, left] of damages) {
      const folder = `${place}/${what}`;
      await cp(`${place}/one`, folder, { recursive: true });
      await Deno.writeTextFile(`${folder}/metrics.csv`, damage(text));
      const words = await said(() => train({ folder, resume: true }));
      assertStringIncludes(words, "kept in metrics.csv.old", what);
      assertEquals(await Deno.readTextFile(`${folder}/metrics.csv.old`), damage(text), what);
      const rows = await readLog(folder);
      assertEquals(
        rows.map(({ step, loss }) => [step, loss]),
        left.map((step) => [step, losses[step - 1]]),
        what,
      );
    }
  });
});

Deno.test("state that counts goes on as it is, integers and truth values too", async () => {
  await withFolder(async (folder) => {
    const start = () => {
      const count = tf.variable(tf.scalar(0, "int32"), false),
        seen = tf.variable(tf.tensor1d([false], "bool"), false);
      const mlp = new Mlp([16, 16], { seed: 0 });
      const objective: Objective = {
        name: "counted",
        parameters: mlp.parameters,
        state: new Map<string, tf.Variable>([["count", count], ["seen", seen]]),
        loss: ({ embeddings, predictions }) => nepaLoss({ embeddings, predictions: mlp.apply(predictions) }),
        after: () => {
          count.assign(tf.add(count, tf.scalar(1, "int32")));
          seen.assign(tf.tensor1d([true], "bool"));
        },
      };
      const options = { steps: 4, batchSize: 8, emaDecay: null, objective };
      return { run: tinyRun({ ...options, checkpoint: { folder, resume: "auto" } }), count, seen };
    };
    for await (const { step } of start().run) if (step === 3) break;
    const { run, count, seen } = start();
    await run.finish();
    assertEquals([count.dataSync()[0], seen.dataSync()[0]], [4, 1]);
  });
});
