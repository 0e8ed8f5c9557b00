/** The demo's `report.html`. @module */
import { formatDuration } from "../lib/display/progress.ts";
import {
  barChart,
  formatPercent,
  imageGrid,
  type MemoryDataset,
  type Nepa,
  plotExpectation,
  plotPatches,
  type ProbeResult,
  type Run,
  runFigure,
  type Table,
} from "nepa";
import { report } from "./report.ts";

/** What `result.json` holds; accuracies from 0 to 1. */
export interface DemoResult {
  engine: string;
  preset: string;
  recipe: string;
  seed: number;
  /** Updates of the pretraining. */
  steps: number;
  /** Of the whole demo. */
  seconds: number;
  lossFirst: number;
  lossLast: number;
  probeAccuracy: number;
  probeBestLayerAccuracy: number;
  /** With all tokens of block 3 joined, fitted to 10,000 images at most. */
  probeAllTokensAccuracy: number;
  rawPixelsAccuracy: number;
  randomInitAccuracy: number;
  fewLabelsAccuracy: number;
  fewLabelsScratchAccuracy: number;
}

/** Accuracies after fine-tuning on a few labels. */
export interface FewLabels {
  labels: number;
  steps: number;
  pretrained: number;
  scratch: number;
  /** Why the two accuracies say nothing about pretraining, where they do not. */
  caution?: string;
}

/** Everything the report shows. */
export interface Demo {
  result: DemoResult;
  run: Run<Nepa>;
  model: Nepa;
  test: MemoryDataset;
  probe: ProbeResult;
  few: FewLabels;
  tables: { probe: Table; fewLabels: Table; loss: Table };
  note: string | undefined;
}

/** Accuracies from below, under names that read well. */
function byLayer({ perLayer = {} }: ProbeResult): Record<string, number> {
  const blocks = Object.keys(perLayer).filter((name) => /^\d+$/.test(name));
  return Object.fromEntries(
    ["embedding", ...blocks, "final"].map((
      name,
    ) => [/^\d+$/.test(name) ? `block ${name}` : name, perLayer[name]!]),
  );
}

/**
 * Everything the demo found, as one HTML file.
 *
 * @returns The file's text.
 */
export async function demoReport(
  { result, run, model, test, probe, few, tables, note }: Demo,
): Promise<string> {
  const { height, width, channels } = test;
  const image = (i: number) => ({ data: test.get(i).image, height, width, channels });
  const images = [1, 0, 11].map(image), pictures = Array.from({ length: 40 }, (_, i) => image(i));
  const expectations = await Promise.all(images.map((shown) => plotExpectation(model, shown)));
  return await report({
    title: "NEPA on Fashion-MNIST",
    lead:
      `A network of ${
        model.parameterCount.toLocaleString("en-US")
      } numbers learned from 60,000 pictures of ` +
      `clothes to predict each next patch's embedding, without a label, in ${
        result.steps.toLocaleString("en-US")
      } ` +
      `steps. ${note ? `Less was done than usual: ${note}.` : ""}`,
    highlights: {
      "loss at the end": result.lossLast.toFixed(3),
      "linear probe, all tokens": formatPercent(result.probeAllTokensAccuracy),
      "raw pixels": formatPercent(result.rawPixelsAccuracy),
      [`${few.labels} labels, pretrained`]: formatPercent(few.pretrained),
      [`${few.labels} labels, from scratch`]: formatPercent(few.scratch),
    },
    sections: [
      {
        title: "What it saw",
        text:
          "Each image is cut into 16 patches, read row by row. At each position the network predicts the embedding " +
          "of the next patch from those before it.",
        shows: [
          imageGrid(pictures, { columns: 20, size: 40, gap: 4 }),
          plotPatches(images[0]!, model.config.patchSize),
        ],
      },
      {
        title: "Training",
        text:
          "The loss is the negative cosine between prediction and embedding, standardised over the batch: what all patches " +
          "have in common earns nothing. The dashed lines are trivial answers: a " +
          "network below them has learned something about each image. The spread and the rank of the embeddings would " +
          "fall to 0 and 1 if it had made its task easy by embedding all patches alike.",
        shows: [runFigure(run), tables.loss],
      },
      {
        title: "What it expects next",
        text:
          "Which patches of the image are like the one that the network expects, at some positions of three images. " +
          "Embeddings are compared as they are here, not standardised: the cosines are lower than the loss tells.",
        shows: expectations,
      },
      {
        title: "What its features are good for",
        text:
          "The network stays as it is; a linear classifier reads the mean of its patch tokens. The untrained network " +
          "is the same with random weights and no layer scale. Raw pixels keep where everything is; the mean of the " +
          "tokens does not, all tokens joined do.",
        shows: [
          barChart({ NEPA: byLayer(probe) }, {
            title: "Linear probe",
            subtitle: "accuracy on the test images, by the block that is read",
            references: {
              "all tokens of block 3": result.probeAllTokensAccuracy,
              "raw pixels": result.rawPixelsAccuracy,
              "untrained, final": result.randomInitAccuracy,
            },
          }),
          tables.probe,
        ],
      },
      {
        title: "Few labels",
        text:
          `The whole network learns to classify from ${few.labels} labelled images in ${few.steps} steps: from the ` +
          "pretrained weights, and from random ones, with a layer scale that suits them better.",
        shows: [
          barChart({ accuracy: { pretrained: few.pretrained, "from scratch": few.scratch } }, {
            title: `Fine-tuned on ${few.labels} labels`,
            subtitle: "accuracy on the test images",
          }),
          tables.fewLabels,
        ],
      },
    ],
    facts: {
      engine: result.engine,
      time: formatDuration(result.seconds),
      "preset and recipe": `${result.preset}, ${result.recipe}`,
      seed: result.seed,
      steps: result.steps,
    },
    commands: ["deno task demo"],
  });
}
