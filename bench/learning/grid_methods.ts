/**
 * What lies between NEPA and I-JEPA: two patterns of prediction, causal and blocks from a context, by three kinds of targets,
 * and these without what prevents collapse. All are trained by `pretrain`, most by an objective.
 *
 * @module
 */
import { gather, ijepaLoss, layerNorm, type LossContext, smoothL1 } from "nepa";
import {
  Ema,
  type IJepa,
  Mlp,
  Nepa,
  nepaLoss,
  type NepaOptions,
  type Objective,
  tf,
  trainingFlops,
} from "nepa";
import { blockFlops } from "../../lib/model/config.ts";
import { named } from "../../lib/model/ijepa_encoder.ts";
import { embedPatches } from "../../lib/model/patches.ts";
import { transformer } from "../../lib/model/transformer.ts";
import { type Jepa, makeJepa } from "./search.ts";

/** How it is predicted: each patch from those before it, or blocks of patches from a context. */
export type Pattern = "causal" | "blocks";

/** What is predicted: patch embeddings, an averaged encoder's output, or normalised pixels. */
export type Target = "embeddings" | "average" | "pixels";

/** What is taken away. */
export type Without = "stop-gradient" | "average" | "predictor";

/** One cell of the grid. */
export interface Kind {
  pattern: Pattern;
  target: Target;
  without?: Without;
}

/** A model with what `pretrain` is told. */
export interface Made {
  model: Nepa | IJepa;
  objective: Objective<never> | undefined;
  /** NEPA's switches, where there is no objective. */
  switches: { stopGradient?: boolean };
  /** What is read afterwards. */
  encoder: Nepa | IJepa["encoder"];
  /** Floating-point operations of an update, products only. */
  flops(batchSize: number): number;
  /** Parameters that this method does not have. */
  unused(name: string): boolean;
  dispose(): void;
}

/** What is kept of the average at an update, at first and at last. */
type Momentum = readonly [number, number];

/** Added to the variance of a patch's pixels (as MAE's), and of averaged targets (as I-JEPA's). */
const PIXELS_EPS = 1e-6, TARGET_EPS = 1e-5;

/** The pixels of each patch with mean 0 and deviation 1: [B, N, p·p·C]. */
function normalisedPatches(images: tf.Tensor4D, p: number): tf.Tensor3D {
  const [batch, height, width, channels] = images.shape, [rows, columns] = [height / p, width / p];
  const cut = images.reshape([batch * rows, p, columns, p * channels])
    .transpose([0, 2, 1, 3]) // [B·rows, columns, p, p·C]
    .reshape([batch, rows * columns, p * p * channels]) as tf.Tensor3D;
  return layerNorm(tf.div(cut.cast("float32"), 255) as tf.Tensor3D, PIXELS_EPS);
}

/** What blocks are compared with: the rows of x [B, N, D] that belong to them, [B, M, n, D]. */
const blocksOf = (x: tf.Tensor3D, targets: tf.Tensor) => gather(x, targets, 1, 1) as tf.Tensor4D;

/** Minus the mean cosine over all blocks. */
function cosineLoss(predictions: tf.Tensor4D, targets: tf.Tensor4D, stopGradient: boolean): tf.Scalar {
  const [B, M, n, D] = predictions.shape;
  const rows = (x: tf.Tensor4D) => x.reshape([B * M, n, D]) as tf.Tensor3D; // [B, M, n, D] to [B·M, n, D]
  return nepaLoss({ embeddings: rows(targets), predictions: rows(predictions) }, {
    shift: false,
    stopGradient,
  });
}

/** A linear map to the pixels of a patch. */
const pixelHead = ({ hiddenSize, patchSize, numChannels }: Nepa["config"], seed: number) =>
  new Mlp([hiddenSize, patchSize ** 2 * numChannels], { name: "pixels", seed });

/** The products of that map for so many tokens, forward and backward. */
const headFlops = ({ hiddenSize: D, patchSize: p, numChannels: C }: Nepa["config"], tokens: number) =>
  3 * 2 * tokens * D * p * p * C;

const all = (x: tf.Tensor3D, from: number, count: number) => tf.slice(x, [0, from, 0], [-1, count, -1]);

/** NEPA, and the same with other targets. */
function causal(network: NepaOptions, { target, without }: Kind, momentum: Momentum, seed: number): Made {
  const model = new Nepa(network, { seed }), { config } = model;
  const N = (config.imageSize / config.patchSize) ** 2,
    plain = (batch: number) => trainingFlops(config, batch);
  const made = {
    ...{ model, switches: {}, objective: undefined, encoder: model, flops: plain, unused: () => false },
    dispose: () => model.dispose(),
  };
  if (target === "embeddings") return { ...made, switches: { stopGradient: without !== "stop-gradient" } };
  if (target === "pixels") {
    const head = pixelHead(config, seed);
    const objective: Objective = {
      name: "the next patch's pixels",
      parameters: head.parameters,
      loss: ({ images, predictions }) =>
        tf.mean(
          tf.squaredDifference(
            head.apply(all(predictions, 0, N)),
            normalisedPatches(images, config.patchSize),
          ),
        ),
    };
    const dispose = () => [model, head].forEach((one) => one.dispose());
    return { ...made, objective, flops: (batch) => plain(batch) + headFlops(config, batch * N), dispose };
  }
  const average = model.clone(), moved = new Ema(model.parameters, average.parameters);
  const read = (images: tf.Tensor4D) => average.forward(images).predictions; // [B, N + 1, D]
  const objective: Objective = {
    name: "the averaged encoder's next token",
    config: { momentum },
    state: new Map([...average.parameters].map(([name, x]) => [`average.${name}`, x])),
    numbers: (k, steps) => ({ momentum: momentum[0] + k * (momentum[1] - momentum[0]) / steps }),
    loss({ images, predictions }) {
      const targets = layerNorm(all(read(images), 1, N) as tf.Tensor3D, TARGET_EPS);
      return tf.mean(smoothL1(all(predictions, 0, N), targets));
    },
    targets: ({ images }) => read(images),
    after: ({ numbers }) => moved.update(numbers.momentum!),
  };
  const dispose = () => [model, average].forEach((one) => one.dispose());
  return { ...made, objective, encoder: average, flops: (batch) => plain(batch) * 4 / 3, dispose };
}

/** What the loss of an I-JEPA reads. */
type Context = LossContext<IJepa>;

/** The embedding of all patches without their positions, [B, N, D]. */
const embedded = ({ model: { context }, images }: Pick<Context, "model" | "images">) =>
  embedPatches(images, context.weights, context);

/** What the average of the encoder makes of the blocks. */
function averaged({ model, images, draws }: Context): tf.Tensor4D {
  const { predictions } = model.encoder.forward(images);
  return layerNorm(blocksOf(predictions, draws.targets!), TARGET_EPS);
}

/** Predictions of blocks by the encoder itself, which is given a token for each patch that it cannot see: [B, M, n, D]. */
function withoutPredictor({ model: { context }, images, draws }: Context, token: tf.Tensor): tf.Tensor4D {
  const { config, weights } = context, [B, M, n] = draws.targets!.shape as [number, number, number];
  const K = draws.context!.shape[1]!, D = config.hiddenSize;
  const table = weights("embeddings.position_embeddings")!.reshape([-1, D]); // [1, N, D] to [N, D]
  const patches = embedPatches(images, weights, context, draws.context as tf.Tensor2D); // [B, K, D]
  const seen = tf.tile(tf.add(patches, gather(table, draws.context!)).expandDims(1), [1, M, 1, 1]);
  const tokens = tf.concat([seen, tf.add(gather(table, draws.targets!), token)], 2).reshape([
    B * M,
    K + n,
    D,
  ]);
  const { predictions } = transformer(tokens as tf.Tensor3D, named(weights), { config });
  return tf.slice(predictions, [0, K, 0]).reshape([B, M, n, D]); // [B·M, n, D] to [B, M, n, D]
}

/** The predictions alone, without what the average makes of the image. */
function predicted({ model, images, draws }: Context): tf.Tensor4D {
  return model.forward(images, draws).predictions;
}

/** I-JEPA, and the same with other targets; what is read is the average, which without momentum is the encoder itself. */
function blocks(jepa: Networks["blocks"], { target, without }: Kind, seed: number): Made {
  const still = target !== "average" || without === "average";
  const network = { ...jepa.network, ...still && { momentum: [0, 0] as const } };
  const model = makeJepa({ ...jepa, network }, seed), { config } = model.encoder;
  const lone = without === "predictor", size = config.hiddenSize;
  const token = lone ? tf.tidy(() => tf.variable(tf.zeros([1, 1, size]))) : undefined;
  const head = target === "pixels" ? pixelHead(config, seed) : undefined;
  const guess = (context: Context) => token ? withoutPredictor(context, token) : predicted(context);
  const losses: Record<Target, (context: Context) => tf.Scalar> = {
    embeddings: (context) =>
      cosineLoss(
        guess(context),
        blocksOf(embedded(context), context.draws.targets!),
        without !== "stop-gradient",
      ),
    average: (context) => ijepaLoss({ predictions: guess(context), targets: averaged(context) }),
    pixels(context) {
      const pixels = blocksOf(normalisedPatches(context.images, config.patchSize), context.draws.targets!);
      return tf.mean(tf.squaredDifference(head!.apply(guess(context)), pixels));
    },
  };
  const objective: Objective<IJepa> = {
    name: `blocks of ${target}${without ? ` without ${without}` : ""}`,
    parameters: new Map([...token ? [["mask_token", token] as const] : [], ...head?.parameters ?? []]),
    loss: losses[target],
    ...target === "embeddings" && { targets: embedded },
  };
  return {
    ...{
      model,
      switches: {},
      objective: target === "average" && !lone ? undefined : objective as Objective<never>,
    },
    encoder: model.encoder,
    flops: (batch) => blockwiseFlops(model, { target, lone }, batch),
    unused: (name) => lone && name.startsWith("predictor."),
    dispose: () => [model, head, token].forEach((one) => one?.dispose()),
  };
}

/** Products of an update on blocks: the average's pass is one forward more, and other targets need none. */
function blockwiseFlops(
  model: IJepa,
  { target, lone }: { target: Target; lone: boolean },
  batch: number,
): number {
  const { encoder: { config }, masks: { targetSize: n, options: { targetBlocks: M } } } = model;
  const whole = trainingFlops(config, batch) / 3, K = model.masks.contextSizeOf(batch);
  const { hiddenSize: D, patchSize: p, numChannels: C } = config;
  const own = 3 * batch * (2 * K * p * p * C * D + M * blockFlops(config, K + n));
  const trained = lone ? own : model.flops(batch) - whole;
  if (target === "pixels") return trained + headFlops(config, batch * M * n);
  return trained + (target === "average" ? whole : 0);
}

/** The networks of the two patterns, and how far the average follows. */
export interface Networks {
  causal: NepaOptions;
  blocks: Pick<Jepa, "network" | "patches">;
}

/** Makes a cell's model with what it is trained for. */
export function makeKind(kind: Kind, networks: Networks, seed: number): Made {
  if (kind.pattern === "blocks") return blocks(networks.blocks, kind, seed);
  const { momentum = [0.996, 1] } = networks.blocks.network;
  return causal(networks.causal, kind, kind.without === "average" ? [0, 0] : momentum, seed);
}
