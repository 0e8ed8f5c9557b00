/** Tensors show their type, their shape and their numbers. Imported for its effect. @module */
import * as tf from "@tensorflow/tfjs";
import { plainText, showAs } from "./jupyter.ts";

/** Numbers that are fetched to be shown. */
const MOST = 1e6;

showAs(tf.Tensor.prototype, (tensor) => {
  const kind = tensor instanceof tf.Variable ? `Variable ${tensor.name}` : "Tensor";
  const head = `${kind} ${tensor.dtype} [${tensor.shape.join(", ")}]`;
  if (tensor.isDisposed) return plainText(`${head}, disposed`);
  if (tensor.size > MOST) return plainText(head);
  try {
    return plainText(tensor.toString().replace(/^Tensor/, head));
  } catch { // there is no number yet, or none that can be read at once
    return plainText(head);
  }
});
