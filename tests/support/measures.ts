/** The official code's numbers, and how far others lie from them. */
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs";
import { readSafetensors } from "../../lib/files/safetensors.ts";

/** One comparison with a fixture. */
export interface Measure {
  fixture: string;
  quantity: string;
  /** Largest difference; relative where the quantity says so. */
  difference: number;
  tolerance: number;
}

/** Where the fixtures are. */
export const folder = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** A fixture's tensor: it has float32, int32 and uint8. */
export interface FixtureTensor {
  shape: readonly number[];
  data: Float32Array | Int32Array | Uint8Array;
}

/** A fixture's numbers: `tensors` by name and `json`. */
export interface Fixture {
  name: string;
  json: Record<string, never>;
  get(name: string): FixtureTensor;
  names(pattern: RegExp): string[];
}

/** A fixture's folder, by its name or by an absolute path. */
export const at = (name: string): string => name.startsWith("/") ? name : `${folder}${name}`;

/** A file of tensors, by name. */
export async function readTensors(path: string): Promise<ReadonlyMap<string, FixtureTensor>> {
  return readSafetensors(await Deno.readFile(at(path))).tensors as Map<string, never>;
}

/** A fixture by the name of its folder. */
export async function open(name: string): Promise<Fixture> {
  const tensors = await readTensors(`${name}/expect.safetensors`);
  return {
    name,
    json: JSON.parse(await Deno.readTextFile(`${at(name)}/expect.json`)),
    get: (tensor) => {
      const found = tensors.get(tensor);
      if (!found) throw new RangeError(`${name}: no tensor ${tensor}`);
      return found;
    },
    names: (pattern) => [...tensors.keys()].filter((tensor) => pattern.test(tensor)),
  };
}

/** Collects measures of one fixture. */
export class Measures {
  readonly all: Measure[] = [];

  constructor(readonly fixture: string) {}

  /** Absolute difference of two arrays, or relative to the largest expected number. */
  compare(
    quantity: string,
    got: ArrayLike<number>,
    expected: ArrayLike<number>,
    tolerance: number,
    relative = false,
  ): void {
    if (got.length !== expected.length) {
      throw new RangeError(
        `${this.fixture}: ${quantity}: expected ${expected.length} numbers, got ${got.length}`,
      );
    }
    let difference = 0, largest = 0;
    for (let i = 0; i < got.length; i++) {
      const d = Math.abs(got[i]! - expected[i]!);
      difference = Number.isNaN(d) ? NaN : Math.max(difference, d);
      largest = Math.max(largest, Math.abs(expected[i]!));
    }
    this.all.push({
      fixture: this.fixture,
      quantity,
      difference: relative ? difference / Math.max(largest, 1e-30) : difference,
      tolerance,
    });
  }
}

/** [B, C, H, W] as the fixtures have it to [B, H, W, C]. */
export function images({ shape, data }: FixtureTensor): tf.Tensor4D {
  return tf.tidy(() =>
    tf.transpose(tf.tensor4d(data, shape as [number, number, number, number]), [0, 2, 3, 1])
  ) as tf.Tensor4D;
}
