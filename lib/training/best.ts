/** Fine-tuning's held-out images: the weights that do best on them win. @module */
import type { Dataset } from "../data/dataset.ts";
import type { Transform } from "../data/transforms.ts";
import { Evaluation, type Validation } from "../eval/evaluate.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import { assignCopies } from "../model/network.ts";
import type { Best } from "./checkpoints.ts";
import type { Measured } from "./trainer.ts";

/** Gives a network another's weights. */
function assign(network: NepaClassifier, other: NepaClassifier): void {
  assignCopies(network.parameters, other.parameters);
}

/** What a {@linkcode Referee} reads, and when. */
export interface RefereeOptions {
  validation?: Dataset | undefined;
  test?: Dataset | undefined;
  /** Updates between two readings of the validation images. */
  interval: number;
  /** Updates in all. */
  steps: number;
  prepare: Transform | null;
  compile: boolean;
}

/** Reads validation images now and then, has the best weights win in the end, and reads the test images then, once. */
export class Referee {
  readonly #classifier: NepaClassifier;
  readonly #options: RefereeOptions;
  readonly #evaluation: Evaluation;
  #best: Best & { network: NepaClassifier } | undefined;

  constructor(classifier: NepaClassifier, options: RefereeOptions) {
    this.#classifier = classifier;
    this.#options = options;
    this.#evaluation = new Evaluation(classifier, options.prepare, options.compile);
  }

  /** To be called after each update, with how many are done. */
  async measure(step: number): Promise<Measured> {
    const { validation, test, interval, steps } = this.#options,
      ends = step === steps,
      measured: Measured = {};
    if (validation && (ends || step % interval === 0)) {
      const reading = await this.#read(validation);
      measured.validation = reading;
      this.#consider(step, reading);
    }
    if (ends && this.#best) {
      measured.best = this.#best.step;
      if (this.#best.step !== step) assign(this.#classifier, this.#best.network);
      this.recall(undefined); // the classifier is the best from here on
    }
    if (ends && test) measured.test = await this.#read(test);
    return measured;
  }

  /** The validation images as the weights are now; decides nothing. */
  async read(): Promise<Measured> {
    const { validation } = this.#options;
    return validation ? { validation: await this.#read(validation) } : {};
  }

  async #read(dataset: Dataset): Promise<Required<Validation>> {
    const { accuracy, loss } = await this.#evaluation.read(dataset);
    return { accuracy, loss };
  }

  /** Of two that are equally accurate the one with the smaller loss is the better. */
  #consider(step: number, reading: Required<Validation>): void {
    const before = this.#best?.reading;
    if (before && reading.accuracy < before.accuracy) return;
    if (before && reading.accuracy === before.accuracy && !(reading.loss < before.loss)) return;
    const network = this.recall({ step, reading })!;
    if (step !== this.#options.steps) assign(network, this.#classifier);
  }

  /** The best so far. */
  get best(): Best & { network: NepaClassifier } | undefined {
    return this.#best;
  }

  /**
   * Takes note of what did best in a run that goes on.
   *
   * @returns What is to be filled with its weights.
   */
  recall(found: Best | undefined): NepaClassifier | undefined {
    const network = this.#best?.network;
    if (!found) network?.dispose();
    this.#best = found && { ...found, network: network ?? this.#classifier.clone() };
    return this.#best?.network;
  }

  dispose(): void {
    this.#evaluation.dispose();
    this.recall(undefined);
  }
}
