/** jax-js as a contender: the same step on WebAssembly, compared with ours before it is timed. */
import {
  blockUntilReady,
  defaultDevice,
  init,
  jit,
  numpy as np,
  tree,
  valueAndGrad,
} from "npm:@jax-js/jax@0.1.25";
import {
  AdamW,
  clipByGlobalNorm,
  lossAndGradients,
  Nepa,
  type NepaConfig,
  nepaLoss,
  Random,
  tf,
  useEngine,
} from "nepa";
import { BATCH, type Case, type Contender, timeEach } from "./common.ts";
import { type Arrays, type Inputs, loss, type State, update } from "./jaxjs_step.ts";

const RATE = 1e-3, BETAS = [0.9, 0.95] as const;

/** Losses of two updates may differ by this much. */
const TOLERANCE = 1e-4;

/** Numbers in [-1, 1] like normalised pixels. */
function pixels(
  config: NepaConfig,
  batch: number,
): { values: Float32Array<ArrayBuffer>; shape: [number, number, number, number] } {
  const random = new Random(0, "bench"), { imageSize: size, numChannels } = config;
  const values = Float32Array.from(
    { length: batch * size * size * numChannels },
    () => random.uniform(-1, 1),
  );
  return { values, shape: [batch, size, size, numChannels] };
}

/** The step, jitted: takes the state and the inputs over, gives the loss and the next state. */
function makeStep(config: NepaConfig) {
  const both = valueAndGrad((parameters: Arrays, images: np.Array, rescale: np.Array) =>
    loss(parameters, images, rescale, config)
  );
  return jit((state: State, { images, rescale, ...numbers }: Inputs): { loss: np.Array; state: State } => {
    const [value, gradients] = both(tree.ref(state.parameters), images, rescale);
    return { loss: value, state: update(state, gradients as Arrays, numbers) };
  });
}

async function startingState(model: Nepa): Promise<State> {
  const state: State = { parameters: {}, m: {}, v: {} };
  for (const [name, variable] of model.parameters) {
    const shape = variable.shape, values = new Float32Array(await variable.data<"float32">());
    state.parameters[name] = np.array(values).reshape(shape);
    for (const moment of [state.m, state.v]) moment[name] = np.zeros(shape);
  }
  return state;
}

/** The losses of two updates of ours, op by op. */
async function ourLosses(model: Nepa, { values, shape }: ReturnType<typeof pixels>): Promise<number[]> {
  const optimizer = new AdamW(model.parameters, { betas: BETAS }), losses: number[] = [];
  for (let k = 0; k < 2; k++) {
    const value = tf.tidy(() => {
      const images = tf.tensor4d(values, shape), draws = { ropeRescale: tf.tensor1d([1]) };
      const { loss, gradients } = lossAndGradients(
        () => nepaLoss(model.forward(images, { draws })),
        model.parameters,
      );
      optimizer.update(clipByGlobalNorm(gradients, 1).clipped, optimizer.rates(k, [RATE]));
      return loss;
    });
    losses.push((await value.data())[0]!);
    value.dispose();
  }
  optimizer.dispose();
  return losses;
}

/** jax-js' step on the weights that a model of ours starts with. */
export async function jaxjsPeer(preset: Case): Promise<Contender> {
  await init("wasm");
  defaultDevice("wasm");
  await useEngine("wasm");
  const model = new Nepa({ preset }, { seed: 0 }), { config } = model, batch = pixels(config, BATCH[preset]);
  let state = await startingState(model), updates = 0;
  const step = makeStep(config), images = np.array(batch.values).reshape(batch.shape);
  const next = async () => {
    updates++;
    const scalar = (value: number) => np.array(Float32Array.of(value)).reshape([]);
    const [m, v] = BETAS.map((beta) => scalar(1 - beta ** updates)) as [np.Array, np.Array];
    const inputs = { images: images.ref, rescale: np.array(Float32Array.of(1)), rate: scalar(RATE), m, v };
    const outputs = step(state, inputs) as { loss: np.Array; state: State };
    state = outputs.state;
    await blockUntilReady(state);
    return (await outputs.loss.data())[0]!;
  };
  const expected = await ourLosses(model, batch);
  model.dispose();
  for (const [k, ours] of expected.entries()) {
    const theirs = await next();
    if (!(Math.abs(theirs - ours) <= TOLERANCE)) {
      throw new Error(`jax-js, ${preset}: expected the loss of update ${k} to be ${ours}, got ${theirs}`);
    }
    console.error(`jax-js, ${preset}, update ${k}: loss ${theirs.toFixed(6)}, ours ${ours.toFixed(6)}`);
  }
  return {
    name: "jax-js, wasm",
    steps: (n) => timeEach(n, next),
    stop() {
      tree.dispose(state);
      images.dispose();
      step.dispose();
    },
  };
}
