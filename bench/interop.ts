/**
 * Exchanges models with the official PyTorch code, both ways, pretrained and fine-tuned, their averages (EMA) included,
 * and prints how far each layer's output lies from the other side's; and files with Python's safetensors.
 *
 *     deno task bench interop --official CHECKOUT [--python PYTHON] [--json]
 *     deno task bench interop --method ijepa [--python PYTHON] [--json]
 *
 * With the method ijepa, `IJepaModel` of transformers 5.24 takes the official code's place.
 */
import { fileURLToPath } from "node:url";
import {
  fashionMnist,
  finetune,
  Nepa,
  NepaClassifier,
  nepaConfig,
  nepaLoss,
  type NepaOptions,
  pretrain,
  Random,
  readSafetensors,
  type Run,
  tf,
  toOfficialConfig,
  useEngine,
  writeSafetensors,
} from "nepa";
import { mutant, wholeFiles } from "../tests/support/mutate.ts";
import { OptionError, readOptions } from "./options.ts";
import { choices, show, showJson } from "./common.ts";
import { interopIJepa } from "./interop_ijepa.ts";
import { python, WITH_IJEPA } from "./peer.ts";

/** Largest difference that passes, as a share of the layer's largest number. */
const TOLERANCE = 1e-5;

/** Files that both sides are asked about, most of them broken. */
const files = [...wholeFiles, ...Array.from({ length: 5000 }, (_, i) => mutant(i))];

/** How far a model's layers lie from the other side's. */
interface Row {
  direction: "ours, loaded there" | "theirs, loaded here";
  model: string;
  /** Largest differences, absolute and as a share of the layer's largest number. */
  layers: Record<string, { difference: number; relative: number }>;
  passed: boolean;
}

interface Check {
  what: string;
  passed: boolean;
}

interface Report {
  versions: Record<string, string>;
  ours: Record<string, { loading: Record<string, string[]>; resaved: boolean }>;
  official: string[];
  accepted: boolean[];
}

const small: NepaOptions = { preset: "mini", layerscaleValue: 0.5, initializerRange: 0.1 };

/** Everything that the small one does not have. */
const other: NepaOptions = {
  hiddenSize: 48,
  numHiddenLayers: 3,
  numAttentionHeads: 3,
  intermediateSize: 80,
  imageSize: 32,
  patchSize: 8,
  numChannels: 3,
  hiddenAct: "silu",
  useGatedMlp: true,
  qkNorm: true,
  qkNormAffine: true,
  qkNormBias: true,
  layerscaleValue: null,
  initializerRange: 0.1,
};

/** Our models by name: trained a little, with their averages, and a random one of another configuration. */
async function makeOurs(): Promise<Map<string, Nepa | NepaClassifier>> {
  const { train } = await fashionMnist(), { classes } = train;
  const options = { steps: 10, batchSize: 32, emaDecay: 0.9 },
    models = new Map<string, Nepa | NepaClassifier>();
  const add = async (name: string, run: Run<Nepa> | Run<NepaClassifier>) => {
    await run.finish();
    models.set(`ours, ${name}, EMA`, run.ema as Nepa | NepaClassifier);
  };
  const model = new Nepa(small, { seed: 1 });
  models.set("ours, pretraining", model);
  await add("pretraining", pretrain(model, train, options));
  for (const pool of ["mean", "last"] as const) {
    const classifier = NepaClassifier.from(model, { classes, pool, causal: pool === "last" });
    const name = `classification by the ${pool === "mean" ? "mean" : "last token, causal"}`;
    models.set(`ours, ${name}`, classifier);
    await add(name, finetune(classifier, train, options));
  }
  return models.set("ours, RGB, SwiGLU, affine QK-norm", new Nepa(other, { seed: 2 }));
}

/** Normal numbers as images for a model, [B, C, H, W] as PyTorch has them. */
function randomImages({ imageSize, numChannels }: Nepa["config"]): { shape: number[]; data: Float32Array } {
  const shape = [8, numChannels, imageSize, imageSize], random = new Random(0, "interop");
  return { shape, data: Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal()) };
}

async function readTensors(path: string): Promise<Map<string, { shape: number[]; data: Float32Array }>> {
  return readSafetensors(await Deno.readFile(path)).tensors as Map<string, never>;
}

/** What each layer gives for the images in a folder, by name, and how far that is from what the folder tells. */
async function compare(model: Nepa | NepaClassifier, folder: string): Promise<Row["layers"]> {
  const { shape, data } = (await readTensors(`${folder}/images.safetensors`)).get("images")!;
  const outputs: Record<string, tf.Tensor> = tf.tidy(() => {
    const images = tf.tensor4d(data, shape as [number, number, number, number]);
    const given = model.forward(tf.transpose(images, [0, 2, 3, 1]) as tf.Tensor4D, { hidden: true });
    return {
      embedding: given.embeddings,
      ...Object.fromEntries(given.hidden!.map((x, i) => [`block ${i + 1}`, x])),
      "final norm": given.predictions,
      ...("logits" in given ? { logits: given.logits as tf.Tensor } : { loss: nepaLoss(given) }),
    };
  });
  const layers: Row["layers"] = {}, theirs = await readTensors(`${folder}/layers.safetensors`);
  for (const [name, expected] of theirs) {
    const got = await outputs[name]!.data();
    let difference = got.length === expected.data.length ? 0 : NaN, largest = 0;
    for (const [i, value] of expected.data.entries()) {
      difference = Math.max(difference, Math.abs(got[i]! - value));
      largest = Math.max(largest, Math.abs(value));
    }
    layers[name] = { difference, relative: difference / largest };
  }
  if (Object.keys(outputs).some((name) => !layers[name])) throw new Error(`${folder}: layers are missing`);
  tf.dispose(outputs);
  return layers;
}

const near = (layers: Row["layers"]): boolean =>
  Object.values(layers).every(({ relative }) => relative <= TOLERANCE);

/** Runs the official code over what lies in the folder. */
async function runPeer(folder: string, checkout: string, given: string | undefined): Promise<Report> {
  const script = fileURLToPath(new URL("interop_peer.py", import.meta.url));
  const args = ["-W", "ignore", script, checkout, folder];
  const { success } = await new Deno.Command(await python(given ?? ""), {
    args,
    stdout: "null",
    stderr: "inherit",
  })
    .output();
  if (!success) throw new Error("the official code's side failed; see above");
  return JSON.parse(await Deno.readTextFile(`${folder}/report.json`));
}

/** Saves our models, broken files, and what the official side is to do. */
async function prepare(folder: string, models: ReadonlyMap<string, Nepa | NepaClassifier>): Promise<void> {
  for (const [name, model] of models) {
    await model.save(`${folder}/${name}`);
    const images = new Map([["images", randomImages(model.config)]]);
    await Deno.writeFile(`${folder}/${name}/images.safetensors`, writeSafetensors(images));
  }
  const configs = {
    "theirs, pretraining": toOfficialConfig(nepaConfig(small), { architectures: ["ViTNepaForPreTraining"] }),
    "theirs, RGB, SwiGLU, affine QK-norm": toOfficialConfig(nepaConfig(other), {
      architectures: ["ViTNepaForPreTraining"],
    }),
    "theirs, classification": toOfficialConfig(
      nepaConfig({ ...small, addPoolingLayer: true, isCausal: false }),
      { architectures: ["ViTNepaForImageClassification"], id2label: { 0: "shirt", 1: "shoe", 2: "bag" } },
    ),
  };
  await Deno.writeFile(`${folder}/broken.bin`, new Blob(files as Uint8Array<ArrayBuffer>[]).stream());
  const jobs = { ours: [...models.keys()], official: configs, lengths: files.map(({ length }) => length) };
  await Deno.writeTextFile(`${folder}/jobs.json`, JSON.stringify(jobs));
}

async function compareModels(
  folder: string,
  models: ReadonlyMap<string, Nepa | NepaClassifier>,
  report: Report,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [model, network] of models) {
    const layers = await compare(network, `${folder}/${model}`);
    const whole = Object.values(report.ours[model]!.loading).every((names) => names.length === 0);
    rows.push({ direction: "ours, loaded there", model, layers, passed: whole && near(layers) });
  }
  for (const model of report.official) {
    const load = model.includes("classification") ? NepaClassifier.load : Nepa.load;
    const network = await load(`${folder}/${model}`), layers = await compare(network, `${folder}/${model}`);
    rows.push({ direction: "theirs, loaded here", model, layers, passed: near(layers) });
    network.dispose();
  }
  return rows;
}

/** Whether files are the same to Python's safetensors and to ours. */
function compareFiles({ ours, accepted }: Report): Check[] {
  const reads = files.map((bytes) => {
    try {
      return readSafetensors(bytes) !== undefined;
    } catch {
      return false;
    }
  });
  const laxer = reads.filter((read, i) => read && !accepted[i]).length;
  const stricter = reads.filter((read, i) => !read && accepted[i]).length;
  const resaved = Object.values(ours).filter(({ resaved }) => resaved).length, all = Object.keys(ours).length;
  return [
    {
      what: `of ${all} files of ours, Python writes ${resaved} again byte for byte`,
      passed: resaved === all,
    },
    {
      what:
        `of ${files.length} files, most of them broken, we read ${
          reads.filter(Boolean).length
        }; ${laxer} of ` +
        `these are refused by Python, which reads ${stricter} that we refuse`,
      passed: laxer === 0,
    },
  ];
}

function table(rows: readonly Row[]): string {
  const layers = [...new Set(rows.flatMap(({ layers }) => Object.keys(layers)))];
  const order = (name: string) =>
    ["embedding", "block", "final", "loss", "logits"].indexOf(name.split(" ")[0]!);
  layers.sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1));
  const lines = rows.map((
    { model, layers: found, passed },
  ) => [
    model + (passed ? "" : " **failed**"),
    ...layers.map((name) => found[name]?.difference.toExponential(1) ?? ""),
  ]);
  return [["model", ...layers], ["---", ...layers.map(() => "---")], ...lines]
    .map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** `deno task bench interop`. */
export async function benchInterop(args: readonly string[]): Promise<void> {
  const { official: checkout, method, json, ...given } = readOptions(args, {
    ...{ official: "", method: "nepa", python: "", json: false },
  });
  choices("method", method, ["nepa", "ijepa"]);
  if (method === "ijepa") {
    const { versions, rows } = await interopIJepa(await python(given.python, WITH_IJEPA));
    if (json) showJson([{ versions, rows }]);
    else {show(rows.map((row) => ({ ...row, passed: row.passed ? "yes" : "no" })), {
        title: Object.values(versions).join(", "),
        format: { difference: (value: number) => value.toExponential(1) },
      });}
    if (rows.some(({ passed }) => !passed)) Deno.exit(1);
    return;
  }
  if (!checkout) throw new OptionError("--official: expected a checkout of SihanXU/nepa, got none");
  const engine = await useEngine(), folder = await Deno.makeTempDir();
  let failed = 0;
  try {
    const models = await makeOurs();
    await prepare(folder, models);
    const report = await runPeer(folder, checkout, given.python || undefined);
    const rows = await compareModels(folder, models, report), checks = compareFiles(report);
    const versions = { engine: String(engine), ...report.versions };
    if (json) {
      console.log(JSON.stringify({ versions, tolerance: TOLERANCE, rows, checks }));
    } else {
      console.log(Object.values(versions).join(", "));
      console.log(table(rows));
      for (const { what } of checks) console.log(what);
    }
    const all = [...rows, ...checks];
    failed = all.filter(({ passed }) => !passed).length;
    console.log(`${all.length - failed} passed, ${failed} failed`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  if (failed > 0) Deno.exit(1);
}
