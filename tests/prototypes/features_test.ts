import { assert, assertEquals } from "@std/assert";
import {
  type Dataset,
  fashionMnist,
  type HostTensor,
  type MemoryDataset,
  tf,
  useEngine,
  writeSafetensors,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { cells, judge, judgeNumbers, readNumbers } from "./features.ts";

const all = await fashionMnist(), train = all.train.balanced(15), test = all.test.balanced(8);

/** The features by loops: [N, 32]. */
function featuresOf(set: Dataset): number[][] {
  return Array.from({ length: set.length }, (_, n) => {
    const { image } = (set as MemoryDataset).get(n);
    return Array.from({ length: 16 }, (_, cell) => {
      const pixels = Array.from({ length: 49 }, (_, i) => {
        const row = 7 * Math.floor(cell / 4) + Math.floor(i / 7), column = 7 * (cell % 4) + i % 7;
        return image[28 * row + column]! / 255;
      });
      const mean = pixels.reduce((sum, x) => sum + x / 49, 0);
      return [mean, pixels.reduce((sum, x) => sum + (x - mean) ** 2 / 49, 0)];
    }).flat();
  });
}

const rows = [train, test].map(featuresOf) as [number[][], number[][]];

/** Logistic regression by plain gradient descent in double precision, on features standardised by the training rows. */
function fitPlainly([fitted, judged]: typeof rows, labels: ArrayLike<number>, lambda: number): number[] {
  const size = fitted[0]!.length,
    mean = (f: (row: number[]) => number) => fitted.reduce((sum, row) => sum + f(row) / fitted.length, 0);
  const means = Array.from({ length: size }, (_, d) => mean((row) => row[d]!));
  const deviations = means.map((m, d) => Math.sqrt(mean((row) => (row[d]! - m) ** 2)));
  const standard = (row: number[]) => [...row.map((x, d) => (x - means[d]!) / deviations[d]!), 1];
  const weights = Array.from({ length: 10 }, () => new Float64Array(size + 1));
  const logits = (x: number[]) => weights.map((w) => x.reduce((sum, v, d) => sum + v * w[d]!, 0));
  const xs = fitted.map(standard);
  for (let step = 0; step < 1500; step++) {
    const gradients = weights.map((w) => w.map((v, d) => d < size ? lambda * v : 0));
    xs.forEach((x, i) => {
      const exps = logits(x).map(Math.exp), total = exps.reduce((a, b) => a + b);
      exps.forEach((e, k) => {
        const share = (e / total - Number(k === labels[i])) / xs.length;
        x.forEach((v, d) => gradients[k]![d]! += share * v);
      });
    });
    weights.forEach((w, k) => w.forEach((_, d) => w[d]! -= 0.5 * gradients[k]![d]!));
  }
  return judged.map((row) => {
    const scores = logits(standard(row));
    return scores.indexOf(Math.max(...scores));
  });
}

/** Votes of the five nearest by cosine, by comparing with all. */
function nearestPlainly([fitted, judged]: typeof rows, labels: ArrayLike<number>): number[] {
  const cosine = (a: number[], b: number[]) =>
    a.reduce((sum, x, d) => sum + x * b[d]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
  return judged.map((row) => {
    const near = fitted.map((other, i) => ({ cosine: cosine(row, other), label: labels[i]! }))
      .sort((a, b) => b.cosine - a.cosine).slice(0, 5);
    const votes = new Array(10).fill(0);
    for (const { cosine, label } of near) votes[label] += Math.exp((cosine - 1) / 0.07);
    return votes.indexOf(Math.max(...votes));
  });
}

/** [true class][guess] counts. */
function confusionOf(guesses: number[]): number[][] {
  const counts = Array.from({ length: 10 }, () => new Array(10).fill(0));
  guesses.forEach((guess, i) => counts[test.labels[i]!]![guess]++);
  return counts;
}

const line = confusionOf(fitPlainly(rows, train.labels, 1e-2)),
  near = confusionOf(nearestPlainly(rows, train.labels));
/** How many images are guessed otherwise. */
const apart = (a: readonly (readonly number[])[], b: readonly (readonly number[])[]) =>
  a.flat().reduce((sum, x, i) => sum + Math.abs(x - b.flat()[i]!), 0) / 2;

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`a function's features are judged as by loops over all images, on ${engine}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors, { probe, neighbours } = await judge(cells, train, test);
    assert(apart(probe.confusion, line) <= 1, "but for a tie");
    assert(apart(neighbours.confusion, near) <= 1);
    assert(probe.accuracy > 0.4 && probe.converged && neighbours.accuracy > 0.4);
    assertEquals(tf.memory().numTensors, before);
  });

  Deno.test(`numbers from a file are judged as what made them, on ${engine}`, async () => {
    await useEngine(engine);
    await withFolder(async (folder) => {
      const before = tf.memory().numTensors, file = `${folder}/features.safetensors`;
      const tensors: [string, HostTensor][] = [train, test].flatMap((set, i) => {
        const name = ["train", "test"][i]!, data = Float32Array.from(rows[i]!.flat());
        return [
          [name, { shape: [set.length, 32], data }],
          [`${name}_labels`, { shape: [set.length], data: set.labels }],
        ];
      });
      await Deno.writeFile(file, writeSafetensors(new Map(tensors)));
      const { probe, neighbours } = await judgeNumbers(readNumbers(file, train.classes));
      assert(apart(probe.confusion, line) <= 1 && apart(neighbours.confusion, near) <= 1);
      assertEquals(tf.memory().numTensors, before);
    });
  });
}
