/**
 * `deno task demo`: pretrains `mini` on Fashion-MNIST, measures what it learned, and writes `out/demo/`: `result.json`,
 * the model, `report.html`.
 *
 * Expected on two cores with TensorFlow: 4,800 steps, the loss near −0.862, a linear probe of 83 % at the end and 85 % at
 * the best block, fine-tuned on 600 labels 80 % (from scratch 74 %); all of it within eight minutes.
 * `--out folder` writes elsewhere (the task may write below `out/`; `deno run -A bench/demo.ts --out …` anywhere);
 * `NEPA_BUDGET=test` in the environment does little of everything, to try it.
 *
 * @module
 */
import { join } from "node:path";
import {
  type Engine,
  evaluate,
  fashionMnist,
  finetune,
  formatPercent,
  linearProbe,
  type MemoryDataset,
  type Metrics,
  Nepa,
  NepaClassifier,
  pretrain,
  Table,
  useEngine,
} from "nepa";
import { formatDuration } from "../lib/display/progress.ts";
import { chance } from "../lib/eval/scores.ts";
import { PROJECT } from "../notebooks/.tools/setup.ts";
import { readOptions, runTask } from "./options.ts";
import { type Demo, demoReport, type DemoResult, type FewLabels } from "./demo_report.ts";

const SEED = 0, PRESET = "mini", RECIPE = "standardized", BATCH_SIZE = 64;

/** Layer scale of the network from random weights. In `bench learning` it beat 1e-5 on images put aside with each seed. */
const SCRATCH_SCALE = 0.1;

/** Images that the probe of all tokens, long features, is fitted to. */
const JOINED_IMAGES = 10_000;

/** The penalty that does best there on training images put aside, among 1e-1, 1e-2 and 1e-3. */
const JOINED_LAMBDA = 1e-2;

/** How much to do. */
interface Budget {
  steps: number;
  /** Images for the probe; Infinity: all. */
  probeTrain: number;
  probeTest: number;
  perClass: number;
  fewLabelsSteps: number;
  fewLabelsTest: number;
  /** Why it is less than the whole, in plain words. */
  note?: string;
}

const WHOLE: Budget = {
  steps: 4800,
  probeTrain: Infinity,
  probeTest: Infinity,
  perClass: 60,
  fewLabelsSteps: 300,
  fewLabelsTest: Infinity,
};
const TRIAL: Budget = {
  steps: 60,
  probeTrain: 1000,
  probeTest: 500,
  perClass: 10,
  fewLabelsSteps: 10,
  fewLabelsTest: 500,
  note: "NEPA_BUDGET=test: a trial, the numbers mean nothing",
};

/** Seconds of pretraining, and of fine-tuning in all, where there is no TensorFlow. */
const SLOW_SECONDS = 300, SLOW_FEW_SECONDS = 120;

async function chooseBudget(engine: Engine, train: MemoryDataset): Promise<Budget> {
  if (Deno.env.get("NEPA_BUDGET") === "test") return TRIAL;
  if (engine.name === "tensorflow") return WHOLE;
  const model = new Nepa({ preset: PRESET }, { seed: SEED }), timed = 4;
  const run = pretrain(model, train, {
    steps: timed + 1,
    batchSize: BATCH_SIZE,
    recipe: RECIPE,
    every: { collapse: timed + 1 },
  });
  let started = 0;
  for await (const { step } of run) {
    if (step === 1) started = performance.now(); // what is done once is over
    if (step === timed) break;
  }
  const seconds = (performance.now() - started) / 1000 / (timed - 1);
  run.dispose();
  model.dispose();
  const steps = Math.min(WHOLE.steps, Math.max(50, Math.floor(SLOW_SECONDS / seconds)));
  const fits = SLOW_FEW_SECONDS / seconds / 2; // two trainings
  const fewLabelsSteps = Math.min(WHOLE.fewLabelsSteps, Math.max(20, Math.floor(fits)));
  return {
    ...WHOLE,
    steps,
    probeTrain: 10_000,
    probeTest: 2_000,
    fewLabelsSteps,
    note: `${engine.name} computes, not TensorFlow: ${steps} steps of ${WHOLE.steps}, as many as fit in ` +
      `${
        SLOW_SECONDS / 60
      } minutes; the probe reads 10,000 training and 2,000 test images, and fine-tuning has ` +
      `${fewLabelsSteps} steps of ${WHOLE.fewLabelsSteps}`,
  };
}

/** Says what comes next, whether anyone watches or not. */
function say(line: string): void {
  console.error(line);
}

function part(dataset: MemoryDataset, count: number): MemoryDataset {
  return count < dataset.length ? dataset.subset(count / dataset.length, SEED) : dataset;
}

/** What keeps the difference of two accuracies on as many test images from meaning something, if anything does. */
function caution(steps: number, one: number, other: number, images: number): string | undefined {
  if (steps < WHOLE.fewLabelsSteps / 2) {
    return `${steps} steps are too few to learn in: this says nothing about what pretraining is worth`;
  }
  const open = chance(one, other, images);
  if (Math.abs(one - other) > open) return undefined;
  const points = (share: number) => (100 * share).toFixed(1);
  return `${images.toLocaleString("en-US")} test images leave ±${
    points(open)
  } points open, and the two are ` +
    `${points(Math.abs(one - other))} apart: this says nothing about what pretraining is worth`;
}

/** Fine-tunes the pretrained network, and the same network from random weights. */
async function fewLabels(
  model: Nepa,
  train: MemoryDataset,
  test: MemoryDataset,
  { perClass, fewLabelsSteps: steps }: Budget,
): Promise<FewLabels> {
  const labelled = train.balanced(perClass, SEED), { classes } = train;
  const learn = async (from: Nepa, layerDecay: number) => {
    const classifier = NepaClassifier.from(from, { classes, seed: SEED });
    await finetune(classifier, labelled, { steps, layerDecay, seed: SEED }).finish();
    const { accuracy } = await evaluate(classifier, test);
    classifier.dispose();
    return accuracy;
  };
  say(`fine-tuning on ${labelled.length} labels, ${steps} steps: from the pretrained weights`);
  const pretrained = await learn(model, 0.75);
  say("the same from random weights");
  const fresh = new Nepa({ ...model.config, layerscaleValue: SCRATCH_SCALE }, { seed: SEED });
  const scratch = await learn(fresh, 1);
  fresh.dispose();
  const doubt = caution(steps, pretrained, scratch, test.length);
  return { labels: labelled.length, steps, pretrained, scratch, ...(doubt && { caution: doubt }) };
}

/** What was found, as tables. */
function tabulate(result: DemoResult, few: FewLabels, metrics: Metrics): Demo["tables"] {
  const probe = new Table([
    {
      features: "NEPA, mean of the tokens, last layer",
      accuracy: result.probeAccuracy,
    },
    { features: "the same, best block", accuracy: result.probeBestLayerAccuracy },
    {
      features: `NEPA, all tokens of block 3 (${JOINED_IMAGES.toLocaleString("en-US")} images at most)`,
      accuracy: result.probeAllTokensAccuracy,
    },
    { features: "the same network untrained, mean of the tokens", accuracy: result.randomInitAccuracy },
    { features: "raw pixels", accuracy: result.rawPixelsAccuracy },
  ], {
    title: "Linear probe: accuracy on the test images",
    format: { accuracy: formatPercent },
  });
  const fewLabels = new Table([
    { network: "pretrained", accuracy: few.pretrained },
    { network: `from scratch (layer scale ${SCRATCH_SCALE})`, accuracy: few.scratch },
  ], {
    title: `Fine-tuned on ${few.labels} labels, ${few.steps} steps: accuracy on the test images`,
    format: { accuracy: formatPercent },
    ...(few.caution && { note: few.caution }),
  });
  const loss = new Table([
    { predictor: "NEPA", loss: result.lossLast },
    { predictor: "the previous patch's embedding", loss: -metrics.previousPatch },
    { predictor: "the mean direction of all", loss: -metrics.meanDirection },
    { predictor: "the mean direction at each position", loss: -metrics.meanDirectionPerPosition },
  ], { title: "Loss at the end (−1 is perfect)", format: { loss: (value) => value.toFixed(4) } });
  return { probe, fewLabels, loss };
}

async function demo(out: string): Promise<void> {
  const started = performance.now();
  await Deno.mkdir(out, { recursive: true }); // where nothing can be written, nothing is begun
  const engine = await useEngine(), { train, test } = await fashionMnist();
  const budget = await chooseBudget(engine, train);
  if (budget.note) say(budget.note);
  const model = new Nepa({ preset: PRESET }, { seed: SEED });
  say(`pretraining ${PRESET}: ${budget.steps} steps of ${BATCH_SIZE} images`);
  const run = pretrain(model, train, {
    steps: budget.steps,
    batchSize: BATCH_SIZE,
    recipe: RECIPE,
    seed: SEED,
  });
  const { lossFirst, lossLast, steps } = await run.finish();
  say("reading features and fitting linear probes");
  const probe = await linearProbe(model, part(train, budget.probeTrain), part(test, budget.probeTest), {
    layers: true,
    references: true,
    seed: SEED,
  });
  const joined = await linearProbe(
    model,
    part(train, Math.min(budget.probeTrain, JOINED_IMAGES)),
    part(test, budget.probeTest),
    { layer: 3, pool: "all", lambdas: [JOINED_LAMBDA], seed: SEED },
  );
  const few = await fewLabels(model, train, part(test, budget.fewLabelsTest), budget);
  const result: DemoResult = {
    engine: String(engine),
    preset: PRESET,
    recipe: RECIPE,
    seed: SEED,
    steps,
    seconds: Math.round((performance.now() - started) / 1000),
    lossFirst,
    lossLast,
    probeAccuracy: probe.accuracy,
    probeBestLayerAccuracy: Math.max(...Object.values(probe.perLayer!)),
    probeAllTokensAccuracy: joined.accuracy,
    rawPixelsAccuracy: probe.rawPixels!,
    randomInitAccuracy: probe.untrained!,
    fewLabelsAccuracy: few.pretrained,
    fewLabelsScratchAccuracy: few.scratch,
  };
  const tables = tabulate(result, few, run.history.at(-1)!.metrics!);
  for (const table of Object.values(tables)) console.log(`${table}\n`);
  await model.save(join(out, "model"), { run: run.result(), datasets: ["zalando-datasets/fashion_mnist"] });
  await Deno.writeTextFile(join(out, "result.json"), JSON.stringify(result, null, 2) + "\n");
  const html = await demoReport({ result, run, model, test, probe, few, tables, note: budget.note });
  await Deno.writeTextFile(join(out, "report.html"), html);
  if (budget.note) console.log(budget.note);
  console.log(`${formatDuration(result.seconds)} on ${result.engine}; open ${join(out, "report.html")}`);
}

if (import.meta.main) {
  await runTask(
    import.meta.url,
    () => demo(readOptions(Deno.args, { out: join(PROJECT, "out", "demo") }).out),
  );
  Deno.exit(0); // a kernel thread may still wait for work
}
