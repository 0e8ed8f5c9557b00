import { fileURLToPath } from "node:url";
import { existsSync } from "node:fs";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type CheckpointOptions, compareRuns, evaluate, finetune, Nepa, NepaClassifier } from "nepa";
import {
  nepaLoss,
  NonFiniteError,
  type PretrainLoss,
  readLog,
  type Run,
  RunFolderError,
  tf,
  useEngine,
} from "nepa";

import { VERSION } from "../../lib/base/version.ts";
import { said } from "../support/said.ts";
import { withFolder } from "../support/folder.ts";
import { checkpoints, killRuns } from "../support/kill.ts";
import { config, noise, tinyRun } from "../support/tiny.ts";
import { needs } from "../support/needs.ts";

await useEngine("wasm");

const CHILD = fileURLToPath(new URL("../support/survivor.ts", import.meta.url));

/** What a run that is done has left: the newest checkpoint's tensors and the log. */
async function left(folder: string): Promise<Uint8Array[]> {
  const newest = checkpoints(folder).at(-1)!;
  const files = ["metrics.csv", ...["model", "optimizer"].map((file) => `${newest}/${file}.safetensors`)];
  return await Promise.all(files.map((file) => Deno.readFile(`${folder}/${file}`)));
}

function free(run: Run<Nepa | NepaClassifier>): void {
  run.dispose();
  run.model.dispose();
  run.ema?.dispose();
}

/** Waits for a checkpoint, unless the folder has gone. */
async function written(folder: string, step: number): Promise<void> {
  const there = () => checkpoints(folder).some((name) => Number(name.slice(5)) === step);
  for (let i = 0; i < 500 && existsSync(folder) && !there(); i++) {
    await new Promise((go) => setTimeout(go, 10));
  }
}

/** Trains ten updates; `at` is called after each. */
async function train(
  checkpoint: CheckpointOptions,
  at: (step: number, run: Run<Nepa>) => unknown = () => {},
  seed = 1,
) {
  const all = { every: 2, ...checkpoint };
  const run = tinyRun({ steps: 10, compile: false, checkpoint: all }, seed);
  try {
    for await (const { step } of run) {
      if (step % all.every === 0 && step < 10) await written(all.folder, step);
      if (await at(step, run) === "break") break;
    }
    return run.history;
  } finally {
    free(run);
  }
}

const refused = async (kind: string, work: () => Promise<unknown>, ...words: string[]) => {
  const error = await assertRejects(work, RunFolderError);
  assertEquals(error.kind, kind);
  for (const word of words) assert(error.message.includes(word), error.message);
};

Deno.test("a run killed with kill -9 at five moments ends with the same bytes as one never stopped", async () => {
  await withFolder(async (place) => {
    const { passed, failed } = await killRuns(place, "wasm", 5, 50);
    assertEquals([passed, failed], [5, 0]);
  });
});

Deno.test("I-JEPA killed at two moments ends with the same bytes, its target encoder's among them", async () => {
  await withFolder(async (place) => {
    const { passed, failed } = await killRuns(place, "wasm", 2, 12, 0, "ijepa");
    assertEquals([passed, failed], [2, 0]);
    const files = [...Deno.readDirSync(`${place}/reference/step-00000012`)].map(({ name }) => name);
    assert(["model.safetensors", "ijepa.safetensors"].every((name) => files.includes(name)));
  });
});

Deno.test("a fine-tuning that is killed ends with the same best weights as one never stopped", async () => {
  await withFolder(async (place) => {
    const { passed, failed } = await killRuns(place, "wasm", 3, 12, 1, "finetune");
    assertEquals([passed, failed], [3, 0]);
    const best = (await readLog(`${place}/reference`)).at(-1)!.best!;
    assert(best < 12, `the best weights are those after step ${best}, which every run would end with`);
    assert(existsSync(`${place}/reference/step-00000011/best/model.safetensors`));
  });
});

Deno.test("a run that is left is taken up by another model with the same bytes, in pretraining and fine-tuning", async () => {
  await withFolder(async (place) => {
    const before = tf.memory().numTensors, [one, two] = [`${place}/one`, `${place}/two`];
    const whole = await train({ folder: one });
    await train({ folder: two, resume: "auto" }, (step) => step === 5 ? "break" : undefined);
    assertEquals(checkpoints(two), ["step-00000004", "step-00000005"]);
    const rest = await train({ folder: two, resume: true }, undefined, 7); // other first weights, which are replaced
    assertEquals(await left(two), await left(one));
    assertEquals(rest.map(({ loss }) => loss), whole.map(({ loss }) => loss));
    const tune = async (folder: string, seed: number, steps: number) => {
      const classifier = new NepaClassifier(config, { classes: noise.classes, seed });
      const options = { steps: 6, batchSize: 8, compile: false, emaDecay: 0.5 };
      const run = finetune(classifier, noise, { ...options, checkpoint: { folder, resume: "auto" } });
      for await (const { step } of run) if (step === steps) break;
      free(run);
    };
    await tune(`${place}/three`, 1, 6);
    await tune(`${place}/four`, 1, 2);
    await tune(`${place}/four`, 2, 6);
    assertEquals(await left(`${place}/four`), await left(`${place}/three`));
    const kept = await NepaClassifier.load(`${place}/four/step-00000006/ema`);
    assert((await evaluate(kept, noise)).accuracy >= 0);
    kept.dispose();
    assertEquals(tf.memory().numTensors, before);
  });
});

Deno.test("a run that is iterated again after another has used its folder is refused", async () => {
  await withFolder(async (folder) => {
    const run = tinyRun({ steps: 10, compile: false, checkpoint: { folder } });
    for await (const { step } of run) if (step === 2) break;
    for await (const { step } of run) if (step === 4) break;
    await train({ folder, every: 500, resume: true }, (step) => step === 6 ? "break" : undefined);
    await refused("different", () => run.finish(), "newest checkpoint of step 4", "got 6");
    free(run);
  });
});

Deno.test("a folder is refused where it is taken, occupied, empty, or of another training, before anything is computed", async () => {
  await withFolder(async (place) => {
    const folder = `${place}/run`;
    await refused("empty", () => train({ folder, resume: true }), "auto");
    await train({ folder }, async (step) => {
      if (step === 2) await refused("locked", () => train({ folder, resume: true }), `process ${Deno.pid}`);
      return step === 3 ? "break" : undefined;
    });
    await refused("occupied", () => train({ folder }), "after step 3", "resume: true", "another folder");
    const other = tinyRun({ steps: 12, batchSize: 4, compile: false, checkpoint: { folder, resume: true } });
    const differences = ["options.steps: 10 then, 12 now", "options.batchSize: 8 then, 4 now", "load("];
    await refused("different", () => other.finish(), ...differences);
    free(other);
    const loss: PretrainLoss = (outputs) => nepaLoss(outputs, { shift: false });
    const own = tinyRun({
      steps: 10,
      batchSize: 8,
      compile: false,
      loss,
      checkpoint: { folder, resume: true },
    });
    await refused("different", () => own.finish(), "options.loss: undefined then, ", "nepaLoss(outputs");
    free(own);
    assertEquals(checkpoints(folder).at(-1), "step-00000003");
    const bad = (options: object) => () => tinyRun({ checkpoint: { folder, ...options } });
    assertThrows(bad({ folder: "" }), TypeError, "checkpoint.folder: expected a path");
    assertThrows(bad({ each: 1 }), TypeError, "unknown option each");
    assertThrows(bad({ every: 0 }), RangeError, "checkpoint.every: expected an integer from 1, got 0");
    assertThrows(
      bad({ resume: "yes" }),
      RangeError,
      'checkpoint.resume: expected one of true, false, "auto"',
    );
  });
});

Deno.test("a torn checkpoint is set aside with a message, and the one before it is taken", async () => {
  await withFolder(async (folder) => {
    const whole = await train({ folder, keep: 3 });
    const expected = await left(folder),
      break_ = (name: string, change: (bytes: Uint8Array) => Uint8Array) => {
        const path = `${folder}/${name}`;
        Deno.writeFileSync(path, change(Deno.readFileSync(path)));
      };
    const [older, old, newest] = checkpoints(folder);
    break_(`${newest}/optimizer.safetensors`, (bytes) => bytes.with(bytes.length - 1, bytes.at(-1)! ^ 1));
    break_(`${old}/model.safetensors`, (bytes) => bytes.slice(0, -1));
    let history: { loss: number }[] = [];
    const words = await said(async () => history = await train({ folder, resume: true, keep: 3 }));
    assert(words.includes(`${newest} is torn (optimizer.safetensors is damaged); it is set aside`), words);
    assert(words.includes(`${old} is torn (model.safetensors is damaged)`), words);
    assert(words.includes(`going on after step ${Number(older!.slice(5))}`), words);
    assertEquals(history.map(({ loss }) => loss), whole.map(({ loss }) => loss));
    assertEquals(await left(folder), expected);
    for (const name of checkpoints(folder)) break_(`${name}/state.json`, () => new Uint8Array());
    await refused("torn", () => train({ folder, resume: "auto" }), "none of its 3 checkpoints is whole");
  });
});

Deno.test("a number that is not finite stops the run, or takes it back to the last checkpoint and past the batch", async () => {
  await withFolder(async (place) => {
    let spoilt = false;
    const spoil = (step: number, { model }: Run<Nepa>) => {
      if (step !== 5 || spoilt) return;
      spoilt = true;
      tf.tidy(() => model.parameters.get("vit_nepa.layernorm.bias")!.assign(tf.fill([16], NaN)));
    };
    const whole = await train({ folder: `${place}/whole` });
    await assertRejects(() => train({ folder: `${place}/stop` }, spoil), NonFiniteError, "step 6");
    assertEquals(checkpoints(`${place}/stop`).at(-1), "step-00000004");
    spoilt = false;
    const history = await train({ folder: `${place}/back`, onNonFinite: "rollback" }, spoil);
    assertEquals(history.map(({ step }) => step), whole.map(({ step }) => step));
    assertEquals(history.slice(0, 5).map(({ loss }) => loss), whole.slice(0, 5).map(({ loss }) => loss));
    assert(history[5]!.loss !== whole[5]!.loss, "update 6 has another batch");
    const log = (await readLog(`${place}/back`)).map(({ loss }) => loss);
    assertEquals(log, history.map(({ loss }) => loss));
    const state = JSON.parse(await Deno.readTextFile(`${place}/back/step-00000010/state.json`));
    assertEquals(state.skipped, [5]);
    const always = (_: number, { model }: Run<Nepa>) =>
      tf.tidy(() => model.parameters.get("vit_nepa.layernorm.bias")!.assign(tf.fill([16], NaN)));
    const never = train({ folder: `${place}/never`, onNonFinite: "rollback" }, always);
    await assertRejects(() => never, NonFiniteError, "step 2");
  });
});

Deno.test("the newest checkpoints stay and the best, which is saved when it is measured", async () => {
  await withFolder(async (folder) => {
    const history = await train({ folder, every: 3, keep: 1, best: "loss" });
    const measured = history.filter(({ validation }) => validation !== undefined);
    const best = measured.reduce((a, b) => b.validation!.loss < a.validation!.loss ? b : a).step;
    const name = (step: number) => `step-${String(step).padStart(8, "0")}`;
    assertEquals(checkpoints(folder), [...new Set([name(best), name(10)])].sort());
    const kept = await Nepa.load(`${folder}/${name(best)}`);
    assertEquals(kept.config.hiddenSize, 16);
    kept.dispose();
    assertThrows(() => tinyRun({ validation: undefined!, checkpoint: { folder, best: "loss" } }), TypeError);
  });
});

Deno.test("the training waits for the copy of the weights alone: the checkpoint is written while it goes on", async () => {
  await withFolder(async (folder) => {
    const run = tinyRun({ steps: 4, compile: false, checkpoint: { folder, every: 2 } }),
      seen: string[][] = [];
    for await (const { step } of run) if (step === 2) seen.push(checkpoints(folder));
    free(run);
    assertEquals(seen, [["step-00000000"]]);
    assertEquals(checkpoints(folder), ["step-00000002", "step-00000004"]);
  });
});

Deno.test("while a folder has vanished the training goes on; when it is back, nothing is missing", async () => {
  await withFolder(async (place) => {
    const [folder, away] = [`${place}/run`, `${place}/away`];
    await train({ folder: `${place}/whole` });
    const words = await said(() =>
      train({ folder }, async (step) => {
        if (step === 5) await Deno.rename(folder, away);
        if (step === 8) await Deno.rename(away, folder);
      })
    );
    assert(words.includes("the last good one is of step 4"), words);
    assert(words.includes("has vanished"), words);
    assertEquals(await left(folder), await left(`${place}/whole`));
    const lost = train({ folder: `${place}/lost` }, async (step) => {
      if (step !== 5) return;
      await Deno.rename(`${place}/lost`, away);
    });
    await said(() => refused("vanished", () => lost, "step 10 could not be saved", "is of step 4"));
  });
});

Deno.test(
  "SIGTERM, SIGHUP and SIGINT save, say how to go on, and end a script",
  needs("signals"),
  async () => {
    await withFolder(async (folder) => {
      for (const [signal, code] of [["SIGTERM", 143], ["SIGHUP", 129], ["SIGINT", 130]] as const) {
        const child = new Deno.Command(Deno.execPath(), {
          args: ["run", "--no-check", "-A", CHILD, folder, "wasm", "100000"],
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const chunks: string[] = [], error = new Response(child.stderr).text();
        let sent = false;
        for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
          chunks.push(chunk);
          if (!sent) child.kill(signal);
          sent = true;
        }
        const out = chunks.join(""), last = Number(out.match(/step (\d+)\n(?:ended.*\n)?$/)![1]);
        assertEquals((await child.status).code, code);
        assert(!out.includes("ended"), out);
        const how =
          `saved after step ${last}; to go on, run the same with checkpoint: { folder: "${folder}", resume: true }`;
        assert((await error).includes(how), await error);
        assertEquals(Number(checkpoints(folder).at(-1)!.slice(5)), last);
      }
    });
  },
);

/** Runs a bash script in which `mnt` is a small file system and `run` starts the training; gives what both print. */
async function mounted(folder: string, size: string, script: string): Promise<string> {
  const child = `"${Deno.execPath()}" run --no-check -A "${CHILD}" mnt/run wasm`;
  const all =
    `set -e; cd "${folder}"; mkdir mnt; mount -t tmpfs -o size=${size} tmpfs mnt; run() { ${child} "$@" 2>&1; }; ${script}`;
  const { stdout, stderr } = await new Deno.Command("unshare", { args: ["-rm", "bash", "-c", all] }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test({
  name: "a full disk is told, the training goes on, and when there is space again nothing is missing",
  ...needs("unshare"),
  fn: () =>
    withFolder(async (folder) => {
      const fill =
        "until grep -q 'step 9' out; do sleep 0.05; done; cat /dev/zero > mnt/fill 2>/dev/null || true";
      const wait = "until grep -qE 'could not be saved|ended' out; do sleep 0.05; done; rm mnt/fill";
      const out = await mounted(
        folder,
        "1m",
        `run 600 > out & ${fill}; ${wait}; wait; cat out; cp -r mnt/run whole`,
      );
      assert(out.includes("a checkpoint could not be saved; the last good one is of step"), out);
      assert(out.includes("the disk is full; free some space"), out);
      assert(out.endsWith("ended whole\n"), out.slice(-500));
      assertEquals((await readLog(`${folder}/whole`)).length, 600);
      assertEquals(checkpoints(`${folder}/whole`).at(-1), "step-00000600");
    }),
});

Deno.test({
  name: "a disk that is full from the start or cannot be written is refused before anything is computed",
  ...needs("unshare"),
  fn: () =>
    withFolder(async (folder) => {
      const script = "run 5 || true; rm -r mnt/run; mount -o remount,ro mnt; run 5 || true";
      const out = await mounted(folder, "40k", script);
      assert(out.includes("RunFolderError: mnt/run: the disk is full"), out);
      assert(out.includes("RunFolderError: mnt/run: cannot be written, its file system is read-only"), out);
      assert(!out.includes("step 1\n"), out);
    }),
});

Deno.test("run.json says what was run, with a session for each time; runs are drawn over each other", async () => {
  await withFolder(async (place) => {
    const [one, two] = [`${place}/one`, `${place}/<i>two`];
    await train({ folder: one }, (step) => step === 3 ? "break" : undefined);
    await train({ folder: one, resume: true });
    await train({ folder: two });
    const { kind, options, config: { hiddenSize }, sessions } = JSON.parse(
      await Deno.readTextFile(`${one}/run.json`),
    );
    assertEquals([kind, options.steps, options.seed, hiddenSize], ["pretrain", 10, 0, 16]);
    assertEquals(sessions.map(({ after }: { after: number }) => after), [0, 3]);
    assertEquals(sessions[0].versions.nepa, VERSION);
    assert(
      (await Deno.readTextFile(new URL("../../deno.json", import.meta.url))).includes(
        `"version": "${VERSION}"`,
      ),
    );
    const { data, layout } = (await compareRuns([one, two])).toJSON();
    assertEquals(data.filter(({ name }) => name === "one").length, 6);
    assert(JSON.stringify(layout).includes("&#60;i&#62;two"));
    await assertRejects(() => compareRuns([place]), RangeError, "metrics.csv");
    await assertRejects(() => compareRuns([]), RangeError, "one or more");
  });
});
