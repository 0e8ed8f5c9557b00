import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  attentiveProbe,
  evaluate,
  fitHead,
  knn,
  linearProbe,
  lowShot,
  Nepa,
  NepaClassifier,
  nepaLoss,
  type Objective,
  readFeatures,
  tf,
  useEngine,
} from "nepa";
import { Run } from "../../lib/training/run.ts";
import { runFigure } from "../../lib/plot/run.ts";
import { config, noise, tinyRun, tinyTuning } from "../support/tiny.ts";
import { LineFit } from "../support/line_fit.ts";
import { withFolder } from "../support/folder.ts";
import { needs } from "../support/needs.ts";

/** Runs `scripted.ts`. */
async function script(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  const child = fileURLToPath(new URL("../support/scripted.ts", import.meta.url));
  const command = ["run", "--no-check", "-A", child, ...args], env = { NO_COLOR: "1" };
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: command, env }).output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, error: error! };
}

const said = {
  ...{ finish: "the training was", plotRun: "the training was", break: "the training was" },
  ...{ probe: "linearProbe: interrupted", hub: "nobody/no-such-model: interrupted" },
};

for (const [what, words] of Object.entries(said)) {
  Deno.test(`Ctrl-C in a script ends it, with code 130: ${what}`, async () => {
    const { code, out, error } = await script(what);
    assertEquals([code, out], [130, ""], error);
    assertStringIncludes(error, `RunInterrupted: ${words}`);
  });
}

Deno.test("a run that was made and never begun is told of where the model is saved, and at the end", () =>
  withFolder(async (folder) => {
    const { code, out, error } = await script("await", folder);
    assertEquals([code, out], [0, "went on\n"]);
    const [saved, ended] = error.trim().split("\n");
    assert(/^save: the run made at file:.*scripted\.ts:8:\d+ was never begun/.test(saved!), error);
    assert(/^the run made at file:.*scripted\.ts:8:\d+ was never begun/.test(ended!), error);
    const run = new Run({}, new LineFit({ steps: 3 }));
    assertStringIncludes(Deno.inspect(run), "0/3 steps, not begun");
    assertStringIncludes(runFigure(run).toString(), "not begun");
    run.dispose();
  }));

Deno.test(
  "a run under nohup does not end when its terminal is closed, one without does",
  needs("signals"),
  async () => {
    const code = `import { onInterrupt, onTerminate } from "@nepa/engine";
    onInterrupt(() => {})();
    onTerminate((code) => Deno.exit(code));
    setTimeout(() => Deno.exit(0), 300);
    Deno.kill(Deno.pid, "SIGHUP");`;
    const cwd = new URL("../..", import.meta.url), evaluated = [Deno.execPath(), "eval", "--ext=ts", code];
    for (const [ending, command] of [[129, evaluated], [0, ["nohup", ...evaluated]]] as const) {
      const args = command.slice(1) as string[];
      const process = new Deno.Command(command[0]!, { args, cwd, stdout: "null", stderr: "null" });
      assertEquals((await process.output()).code, ending, command[0]);
    }
  },
);

const train = noise.subset(Array.from({ length: 64 }, (_, i) => i));
const test = noise.subset(Array.from({ length: 32 }, (_, i) => 64 + i));

const works = {
  linearProbe: (signal: AbortSignal) => linearProbe(model, train, test, { signal, layers: true }),
  "linearProbe of features": (signal: AbortSignal) => {
    const rows = {
      features: Array.from({ length: 96 }, (_, i) => [i % 7, i % 5, i % 3]),
      labels: noise.labels,
    };
    return linearProbe({ train: { ...rows, classes: 2 }, test: rows }, { signal });
  },
  "linearProbe of a function": (signal: AbortSignal) =>
    linearProbe((images) => images.mean([1, 3]) as tf.Tensor2D, train, test, { signal }),
  knn: (signal: AbortSignal) => knn(model, train, test, { signal }),
  attentiveProbe: (signal: AbortSignal) => attentiveProbe(model, train, test, { signal }),
  lowShot: (signal: AbortSignal) => lowShot(model, train, test, { signal, labels: [20] }),
  readFeatures: (signal: AbortSignal) => readFeatures(model, noise, ["final"], { signal }),
  evaluate: (signal: AbortSignal) => evaluate(classifier, noise, { signal }),
  fitHead: (signal: AbortSignal) => fitHead(classifier, noise, { signal }),
};

await useEngine("cpu");
const model = new Nepa(config, { seed: 0 });
const classifier = NepaClassifier.from(model, { classes: noise.classes, seed: 0 });

for (const [name, work] of Object.entries(works)) {
  Deno.test(`a signal ends ${name}, and nothing is left of it`, async () => {
    await useEngine("cpu");
    const before = tf.memory().numTensors,
      weights = [...classifier.parameters.values()].map((x) => x.dataSync());
    for (const delay of [undefined, 0, 30]) {
      const stop = new AbortController(), reason = new Error("enough");
      if (delay === undefined) stop.abort(reason);
      else setTimeout(() => stop.abort(reason), delay);
      const error = await work(stop.signal).then(() => undefined, (error) => error);
      assert(
        error === reason || error === undefined && delay !== undefined,
        `${name}, ${delay} ms: ${error}`,
      );
      await new Promise((resolve) => setTimeout(resolve, delay));
      assertEquals(tf.memory().numTensors, before, `${name}, ${delay} ms`);
      if (error) assertEquals([...classifier.parameters.values()].map((x) => x.dataSync()), weights);
    }
  });
}

Deno.test("a run that stops has a last reading, which going on takes back", async () => {
  await useEngine("cpu");
  const options = { steps: 6, every: { collapse: 4 }, compile: false };
  const whole = tinyRun(options),
    stop = new AbortController(),
    broken = tinyRun({ ...options, signal: stop.signal });
  await whole.finish();
  for await (const { step } of broken) if (step === 2) break;
  assert(broken.history[1]!.metrics!.featureStd > 0 && broken.history[1]!.validation!.loss < 1);
  for await (const { step } of broken) if (step === 3) stop.abort();
  assertEquals([broken.reason, broken.history.length], ["aborted", 3]);
  assertEquals(broken.history[1]!.metrics, undefined);
  assertEquals(broken.history[2]!.metrics!.collapsed, false);

  const tuning = tinyTuning({ steps: 5, every: { validation: 5 }, compile: false });
  for await (const { step } of tuning) if (step === 2) break;
  assert(tuning.history[1]!.validation!.accuracy! >= 0);
  await tuning.finish();
  assertEquals(tuning.history.map(({ validation }) => validation !== undefined), [
    false,
    false,
    false,
    false,
    true,
  ]);
});

Deno.test("the first and the last losses do not overlap, from the second step on", async () => {
  const run = new Run({}, new LineFit({ steps: 40 }));
  for await (const { step } of run) if (step === 1) break;
  assertEquals(/loss ([^·]*) ·/.exec(runFigure(run).toString())![1]!.includes("→"), false);
  const { history, lossFirst, lossLast } = await run.finish(),
    mean = (some: typeof history) => some.reduce((sum, { loss }) => sum + loss, 0) / some.length;
  assertEquals([lossFirst, lossLast], [mean(history.slice(0, 20)), mean(history.slice(20))]);
  assert(lossLast < lossFirst);
});

Deno.test("a loop's own error is not hidden by an interruption, and a disposed model does not keep a loop from ending", async () => {
  const run = tinyRun({ steps: 4, compile: false });
  await assertRejects(
    async () => {
      for await (const _ of run) throw new Error("my own");
    },
    Error,
    "my own",
  );
  for await (const _ of run) {
    run.model.dispose();
    break;
  }
});

Deno.test("the trivial guesses of a cosine are drawn beside a cosine alone", async () => {
  await useEngine("cpu");
  const drawn = async (objective?: Objective) => {
    const run = tinyRun({ steps: 2, compile: false, ...(objective && { objective }) });
    await run.finish();
    assert(run.history[1]!.metrics!.previousPatch < 1, "measured it is all the same");
    return runFigure(run).toJSON().data.some(({ name }) => name === "previous patch");
  };
  const squares: Objective = {
    name: "squares",
    loss: ({ embeddings, predictions }) =>
      tf.mean(tf.squaredDifference(predictions, embeddings)) as tf.Scalar,
  };
  const more: Objective = { name: "more", loss: (context) => tf.add(nepaLoss(context), 1) as tf.Scalar };
  const cosine: Objective = {
    name: "mine",
    loss: (context) => ({ loss: nepaLoss(context), one: tf.scalar(1) }),
  };
  assertEquals(await Promise.all([drawn(), drawn(cosine)]), [true, true]);
  assertEquals(await Promise.all([drawn(squares), drawn(more)]), [false, false]);
});
