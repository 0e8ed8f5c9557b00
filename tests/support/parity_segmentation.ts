/** How far segmentation heads lie from transformers' and mmsegmentation's: pyramid, logits, loss, gradients, running statistics. */
import * as tf from "@tensorflow/tfjs";
import type { Engine } from "../../lib/engine/mod.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { fromOfficial } from "../../lib/files/model_folder.ts";
import { readVariables } from "../../lib/files/variables.ts";
import { moved } from "../../lib/model/maps.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { HEADS, NepaSegmenter, segmentationLoss } from "../../lib/model/segmenter.ts";
import { pyramid } from "../../lib/model/upernet.ts";
import { at, type Fixture, images, type Measure, Measures, open } from "./measures.ts";

interface Expected {
  head: "linear" | "upernet";
  blocks: number[] | null;
  classes: number;
  ignore_index: number;
  auxiliary_weight: number;
  channels: number | null;
  auxiliary_channels: number | null;
}

/** The fixture's segmenter. */
export async function loadFixture(name: string, json: unknown): Promise<NepaSegmenter> {
  const { head, classes, blocks, channels, auxiliary_channels: auxiliary } = json as Expected;
  const model = await Nepa.load(at(name));
  const sizes = head === "upernet" &&
    { blocks: blocks!, channels: channels!, auxiliary: auxiliary ?? false };
  const segmenter = NepaSegmenter.from(model, { classes, head, ...sizes });
  model.dispose();
  await readVariables([segmenter.files[HEADS]!, `${at(name)}/${HEADS}`, fromOfficial]);
  return segmenter;
}

/** [B, C, H, W] to [B, H, W, C], row by row. */
const byPlace = ({ shape, data }: ReturnType<Fixture["get"]>) => {
  const x = images({ shape, data }), values = x.dataSync() as Float32Array;
  x.dispose();
  return values;
};

/** Everything that the fixture has, in evaluation and in training mode. */
export async function segmentation(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name), json = fixture.json as unknown as Expected;
  const segmenter = await loadFixture(name, json), labels = fixture.get("labels");
  const input = images(fixture.get("pixel_values"));
  const masks = tf.tensor3d(labels.data as Int32Array, labels.shape as [number, number, number], "int32");
  const options = { auxiliaryWeight: json.auxiliary_weight, ignore: json.ignore_index };
  const names = fixture.names(/^train\.grad\./).map((name) => name.slice("train.grad.".length));
  const parameters = new Map(names.map((name) => [name, segmenter.parameters.get(name)!]));
  const evaluate = compile((input: tf.Tensor4D) => segmenter.forward(input), { name: `${name} evaluation` });
  const train = compile((input: tf.Tensor4D, masks: tf.Tensor3D) => {
    const { statistics, ...outputs } = segmenter.forward(input, { training: true });
    const loss = () => segmentationLoss(segmenter.forward(input, { training: true }), masks, options);
    const { loss: value, gradients } = lossAndGradients(loss, parameters);
    const after = Object.entries(statistics!).map((
      [name, x],
    ) => [name, moved(segmenter.state.get(name)!, x)]);
    return { outputs, loss: value, gradients, after: Object.fromEntries(after) as Record<string, tf.Tensor> };
  }, { name: `${name} training` });
  const found = await evaluate(input), trained = await train(input, masks);
  const of = { logits: "logits", auxiliary: "auxiliary_logits" };
  for (const [mode, outputs] of [["eval", found], ["train", trained.outputs]] as const) {
    for (const [key, tensor] of Object.entries(outputs) as [keyof typeof of, tf.Tensor][]) {
      const expected = byPlace(fixture.get(`${mode}.${of[key]}`));
      measures.compare(`segment ${mode} logits`, await tensor.data(), expected, 5e-5);
    }
  }
  measures.compare("segment loss", await trained.loss.data(), fixture.get("train.loss").data, 3e-6);
  for (const [name, x] of Object.entries(trained.after)) {
    measures.compare("segment running statistics", await x.data(), fixture.get(`after.${name}`).data, 1e-5);
  }
  const expected = names.map((name) => fromOfficial(name, fixture.get(`train.grad.${name}`)));
  const largest = Math.max(...expected.map((x) => x.reduce((most, x) => Math.max(most, Math.abs(x)), 0)));
  for (const [i, name] of names.entries()) {
    const got = (await trained.gradients[name]!.data()).map((x) => x / largest);
    measures.compare("segment gradients, by the largest", got, expected[i]!.map((x) => x / largest), 1e-5);
  }
  if (json.head === "upernet") await levels(segmenter, fixture, input, measures);
  evaluate.dispose();
  train.dispose();
  tf.dispose([found, trained, input, masks]);
  segmenter.dispose();
  return measures.all;
}

/** The pyramid's maps. */
async function levels(segmenter: NepaSegmenter, fixture: Fixture, input: tf.Tensor4D, measures: Measures) {
  const { encoder, config: { blocks }, parameters, state } = segmenter;
  const maps = tf.tidy(() => {
    const [rows, columns] = encoder.grid(input), [batch] = input.shape;
    const tokens = encoder.tokens(input, blocks, { causal: false });
    const maps = tokens.map((x) => tf.slice(x, [0, 1, 0]).reshape([batch, rows, columns, -1]) as tf.Tensor4D);
    return pyramid(maps, { weights: (name) => parameters.get(name) ?? state.get(name) });
  });
  for (const [i, map] of maps.entries()) {
    const expected = byPlace(fixture.get(`eval.pyramid.${i}`));
    measures.compare("segment pyramid", await map.data(), expected, 5e-5);
  }
  tf.dispose(maps);
}
