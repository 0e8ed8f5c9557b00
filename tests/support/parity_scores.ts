/** How far scores of masks, and the windows of sliding inference, lie from mmsegmentation's. */
import * as tf from "@tensorflow/tfjs";
import type { Engine } from "../../lib/engine/mod.ts";
import { generatedImages } from "../../lib/data/generated.ts";
import { scoreMasks } from "../../lib/eval/mask_scores.ts";
import { segmentationScores, slidingWindows } from "../../lib/eval/segmentation.ts";
import { type Measure, Measures, open } from "./measures.ts";

interface Case {
  classes: number;
  confusion: number[][];
  iou: (number | null)[];
  accuracy: (number | null)[];
  mean_iou: number;
  mean_accuracy: number;
  pixel_accuracy: number;
}
interface Expected {
  cases: Record<string, Case>;
  sliding_windows_top_left_bottom_right: Record<string, number[][]>;
}

/** Scores by arrays, and by a function that gives the predictions of images, whole and by windows. */
export async function miou(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name);
  const { cases, sliding_windows_top_left_bottom_right: windows } = fixture.json as unknown as Expected;
  const labels = fixture.get("labels"), guesses = fixture.get("predictions").data;
  const [length, height, width] = labels.shape as [number, number, number], area = height * width;
  for (const { classes: count, ...expected } of Object.values(cases)) {
    const classes = Array.from({ length: count }, (_, k) => `class ${k}`);
    // Images that hold the predictions, and a network that says what it sees.
    const set = generatedImages({
      ...{ length, height, width, channels: 1, classes, masks: true },
      get(i) {
        const part = (from: ArrayLike<number>) =>
          Uint8Array.from(Array.from(from).slice(i * area, (i + 1) * area));
        return { data: part(guesses), mask: part(labels.data), height, width, channels: 1 };
      },
    });
    const see = compile(
      (images: tf.Tensor4D) =>
        tf.oneHot(tf.squeeze(images, [3]) as tf.Tensor3D, count, 1, 0, "float32") as tf.Tensor4D,
      { name },
    );
    const found = [
      scoreMasks({ masks: labels.data, predictions: guesses, classes }),
      await segmentationScores(see, set, { batchSize: 3 }),
      await segmentationScores(see, set, { batchSize: 2, window: { size: 6, stride: 4 } }),
    ];
    const numbers = (list: readonly (number | null)[]) =>
      list.map((x) => x === null || Number.isNaN(x) ? -1 : x);
    for (const { confusion, iou, accuracy, ...scores } of found) {
      measures.compare("miou confusion", confusion.flat(), expected.confusion.flat(), 0);
      measures.compare("miou by class", numbers(Object.values(iou)), numbers(expected.iou), 1e-12);
      measures.compare("miou by class", numbers(Object.values(accuracy)), numbers(expected.accuracy), 1e-12);
      const { mean_iou, mean_accuracy, pixel_accuracy } = expected,
        { meanIoU, meanAccuracy, pixelAccuracy } = scores;
      measures.compare("miou", [meanIoU, meanAccuracy, pixelAccuracy], [
        mean_iou,
        mean_accuracy,
        pixel_accuracy,
      ], 1e-12);
    }
    see.dispose();
  }
  for (const [key, boxes] of Object.entries(windows)) {
    const [, height, width, size, stride] = /^(\d+)x(\d+) crop (\d+) stride (\d+)$/.exec(key)!.map(
      Number,
    ) as number[];
    const got = slidingWindows({ height: height!, width: width! }, size!, stride!);
    const corners = got.flatMap(({ top, left, height, width }) => [top, left, top + height, left + width]);
    measures.compare("sliding windows", corners, boxes.flat(), 0);
  }
  return measures.all;
}
