/** What tfjs gets wrong about gradients, whichever backend computes them. @module */
import * as tf from "@tensorflow/tfjs";

/** What of tfjs' engine is used here. */
interface Taping {
  gradients(...args: unknown[]): unknown;
  keep(tensor: tf.Tensor): tf.Tensor;
  state: { gradientDepth: number; kernelDepth: number; activeTape: { saved: tf.Tensor[] }[] | null };
}

/** What was saved for the way back is let go of where a gradient throws. */
function letGoAfterErrors(): void {
  const engine = tf.engine() as unknown as Taping, { gradients, keep } = engine, { state } = engine;
  const unfinished = new Set<tf.Tensor>(); // saved by custom gradients, which may not come as far as the tape
  engine.keep = (tensor) => {
    if (state.gradientDepth > 0 && state.kernelDepth > 0) unfinished.add(tensor);
    return keep.call(engine, tensor);
  };
  engine.gradients = (...args) => {
    try {
      return gradients.apply(engine, args);
    } catch (error) {
      if (state.gradientDepth === 0) {
        tf.dispose([...unfinished, ...state.activeTape?.flatMap(({ saved }) => saved) ?? []]);
        state.activeTape = null;
      }
      throw error;
    } finally {
      if (state.gradientDepth === 0) unfinished.clear();
    }
  };
}

let corrected = false;

/** Corrects tfjs for this process. */
export function correctGradients(): void {
  if (corrected) return;
  corrected = true;
  letGoAfterErrors();
}
