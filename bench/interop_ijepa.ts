/** Exchanges I-JEPA with Hugging Face's `IJepaModel` and the public code's checkpoints: `bench interop --method ijepa`. @module */
import { fileURLToPath } from "node:url";
import {
  fashionMnist,
  finetune,
  IJepa,
  NepaClassifier,
  pretrain,
  Random,
  tf,
  useEngine,
  writeSafetensors,
} from "nepa";
import { buildIJepa, fromPublic } from "../lib/model/ijepa_files.ts";
import { folder as fixtures, readTensors } from "../tests/support/measures.ts";

/** Largest difference that passes, as a share of the output's largest number. */
const TOLERANCE = 1e-5;

interface Row {
  model: string;
  difference: number;
  passed: boolean;
}

type Model = IJepa["encoder"] | NepaClassifier;

/** How far what a model gives lies from what is in its folder, as a share of the largest number there. */
async function apart(model: Model, folder: string): Promise<number> {
  const { shape, data } = (await readTensors(`${folder}/images.safetensors`)).get("images")!;
  const given: Record<string, tf.Tensor> = tf.tidy(() => {
    const images = tf.transpose(tf.tensor4d(data, shape as [number, number, number, number]), [0, 2, 3, 1]);
    const { embeddings, hidden, predictions, ...rest } = model.forward(images as tf.Tensor4D, {
      hidden: true,
    });
    const blocks = [embeddings, ...hidden!].map((x, i) => [`hidden.${i}`, x] as const);
    return { ...Object.fromEntries(blocks), last: "logits" in rest ? rest.logits as tf.Tensor : predictions };
  });
  let worst = 0;
  for (const [name, expected] of await readTensors(`${folder}/outputs.safetensors`)) {
    const got = await given[name]!.data(), largest = Math.max(...expected.data.map(Math.abs));
    if (got.length !== expected.data.length) return NaN;
    for (const [i, x] of expected.data.entries()) worst = Math.max(worst, Math.abs(got[i]! - x) / largest);
  }
  tf.dispose(given);
  return worst;
}

/** Ours, trained a little. */
async function makeOurs(): Promise<Map<string, IJepa | NepaClassifier>> {
  const { train } = await fashionMnist(),
    model = new IJepa({ preset: "nano", initializerRange: 0.1 }, { seed: 1 });
  await pretrain(model, train, { steps: 5, batchSize: 16, learningRate: 1e-2 }).finish();
  const classifier = NepaClassifier.from(model, { classes: train.classes });
  await finetune(classifier, train, { steps: 5, batchSize: 16 }).finish();
  return new Map<string, IJepa | NepaClassifier>([["model", model], ["classifier", classifier]]);
}

/** Whether a checkpoint of the public code, written by PyTorch, is read whole. */
async function publicRow(root: string): Promise<Row> {
  const expected = buildIJepa("fixture", fromPublic(await readTensors("ijepa/model.safetensors")), {
    numAttentionHeads: 4,
  });
  const model = await IJepa.load(`${root}/public.pth.tar`, { config: { numAttentionHeads: 4 } });
  let difference = 0;
  for (const which of ["parameters", "state"] as const) {
    for (const [name, x] of expected[which]) {
      const [a, b] = [await x.data(), await model[which].get(name)!.data()];
      a.forEach((value, i) => difference = Math.max(difference, Math.abs(value - b[i]!)));
    }
  }
  return { model: "the public code's .pth, loaded here", difference, passed: difference === 0 };
}

/** Runs both sides. */
export async function interopIJepa(
  python: string,
): Promise<{ versions: Record<string, string>; rows: Row[] }> {
  const engine = await useEngine(), root = await Deno.makeTempDir(), random = new Random(0, "interop");
  try {
    const ours = await makeOurs(), rows: Row[] = [];
    for (const [name, model] of ours) {
      await model.save(`${root}/ours/${name}`);
      const shape = [4, 1, 28, 28], data = Float32Array.from({ length: 4 * 28 * 28 }, () => random.normal());
      await Deno.writeFile(
        `${root}/ours/${name}/images.safetensors`,
        writeSafetensors(new Map([["images", { shape, data }]])),
      );
    }
    await Deno.copyFile(`${fixtures}ijepa/model.safetensors`, `${root}/public.safetensors`);
    const script = fileURLToPath(new URL("interop_ijepa.py", import.meta.url));
    const { success } = await new Deno.Command(python, {
      args: ["-W", "ignore", script, root],
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("Hugging Face's side failed; see above");
    const report = JSON.parse(await Deno.readTextFile(`${root}/report.json`));
    for (const [name, model] of ours) {
      const difference = await apart(model instanceof IJepa ? model.encoder : model, `${root}/ours/${name}`);
      const wrong: string[] = report.wrong[name];
      if (wrong.length > 0) console.error(`${name}: ${wrong.join(", ")}`);
      rows.push({
        model: `ours, ${name}, loaded there`,
        difference,
        passed: wrong.length === 0 && difference <= TOLERANCE,
      });
    }
    for await (const { name } of Deno.readDir(`${root}/theirs`)) {
      const folder = `${root}/theirs/${name}`;
      const model = name === "classifier"
        ? await NepaClassifier.load(folder)
        : (await IJepa.load(folder)).encoder;
      const difference = await apart(model, folder);
      rows.push({ model: `theirs, ${name}, loaded here`, difference, passed: difference <= TOLERANCE });
    }
    rows.push(await publicRow(root));
    return { versions: { engine: String(engine), ...report.versions }, rows };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}
