/** A small training that takes no engine: the slope of a line, fitted by gradient descent to noisy points. @module */
import { Random } from "../../lib/base/random.ts";
import type { Step } from "../../lib/training/history.ts";
import type { Training } from "../../lib/training/run.ts";

export class LineFit implements Training {
  readonly steps: number;
  readonly #options: { every?: number; delay?: number };
  readonly #random: Random = new Random(0, "line fit");
  #slope = 0;

  /** @param options every: steps between two measurements; delay: milliseconds that a step takes at least. */
  constructor({ steps, ...options }: { steps: number; every?: number; delay?: number }) {
    this.steps = steps;
    this.#options = options;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  async update(step: number): Promise<Step> {
    const { every, delay = 0 } = this.#options, started = performance.now();
    await new Promise((resolve) => setTimeout(resolve, delay));
    let loss = 0, gradient = 0;
    for (let i = 0; i < 8; i++) {
      const x = this.#random.normal(), error = (this.#slope - 2) * x + this.#random.normal(0, 0.3);
      loss += error ** 2 / 8;
      gradient += 2 * error * x / 8;
    }
    this.#slope -= 0.05 * gradient;
    const seconds = (performance.now() - started) / 1000, gradNorm = Math.abs(gradient);
    const measured = every !== undefined && (step + 1) % every === 0;
    const guesses = { previousPatch: -0.25, meanDirection: -0.5, meanDirectionPerPosition: -0.75 };
    const metrics = { featureStd: 0.8, effectiveRank: 9, meanCosine: 0.3, collapsed: false, ...guesses };
    const pace = { imagesPerSecond: 8 / seconds, gflops: 64e-9 / seconds };
    return { step: step + 1, epoch: 0, loss, lr: 0.05, gradNorm, ...pace, ...(measured && { metrics }) };
  }

  dispose(): void {}
}
