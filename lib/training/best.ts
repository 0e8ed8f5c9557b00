/** Fine-tuning's held-out images: the weights that do best on them win. @module */
import type { Dataset } from "../data/dataset.ts";
import { assignCopies } from "../model/network.ts";
import { whole } from "./checkpoint_files.ts";
import type { Best, Savable } from "./checkpoints.ts";
import type { Measured } from "./trainer.ts";

/** What fine-tuning moves. */
export interface Tuned extends Savable {
  /** Another with the same weights, which it does not share. */
  clone(): Tuned;
  dispose(): void;
}

/** Reads held-out images by a network as it is. */
export interface Reader {
  read(dataset: Dataset): Promise<Best["reading"]>;
  dispose(): void;
}

/** Gives a network another's weights. */
function assign(network: Tuned, other: Tuned): void {
  assignCopies(whole(network), whole(other));
}

/** What counts of a reading. */
const scoreOf = ({ meanIoU, accuracy }: Best["reading"]): number => meanIoU ?? accuracy;

/** What a {@linkcode Referee} reads, and when. */
export interface RefereeOptions {
  validation?: Dataset | undefined;
  test?: Dataset | undefined;
  /** Updates between two readings of the validation images. */
  interval: number;
  /** Updates in all. */
  steps: number;
}

/** Reads validation images now and then, has the best weights win in the end, and reads the test images then, once. */
export class Referee {
  readonly #network: Tuned;
  readonly #options: RefereeOptions;
  readonly #reader: Reader;
  #best: Best & { network: Tuned } | undefined;

  constructor(network: Tuned, reader: Reader, options: RefereeOptions) {
    this.#network = network;
    this.#options = options;
    this.#reader = reader;
  }

  /** To be called after each update, with how many are done. */
  async measure(step: number): Promise<Measured> {
    const { validation, test, interval, steps } = this.#options,
      ends = step === steps,
      measured: Measured = {};
    if (validation && (ends || step % interval === 0)) {
      const reading = await this.#reader.read(validation);
      measured.validation = reading;
      this.#consider(step, reading);
    }
    if (ends && this.#best) {
      measured.best = this.#best.step;
      if (this.#best.step !== step) assign(this.#network, this.#best.network);
      this.recall(undefined); // the network is the best from here on
    }
    if (ends && test) measured.test = await this.#reader.read(test);
    return measured;
  }

  /** The validation images as the weights are now; decides nothing. */
  async read(): Promise<Measured> {
    const { validation } = this.#options;
    return validation ? { validation: await this.#reader.read(validation) } : {};
  }

  /** Of two that are equally good the one with the smaller loss is the better. */
  #consider(step: number, reading: Best["reading"]): void {
    const before = this.#best?.reading, gain = before ? scoreOf(reading) - scoreOf(before) : 1;
    if (gain < 0 || gain === 0 && !(reading.loss < before!.loss)) return;
    const network = this.recall({ step, reading })!;
    if (step !== this.#options.steps) assign(network, this.#network);
  }

  /** The best so far. */
  get best(): Best & { network: Tuned } | undefined {
    return this.#best;
  }

  /**
   * Takes note of what did best in a run that goes on.
   *
   * @returns What is to be filled with its weights.
   */
  recall(found: Best | undefined): Tuned | undefined {
    const network = this.#best?.network;
    if (!found) network?.dispose();
    this.#best = found && { ...found, network: network ?? this.#network.clone() };
    return this.#best?.network;
  }

  dispose(): void {
    this.#reader.dispose();
    this.recall(undefined);
  }
}
